"use strict";
(() => {
  // A link into a closed part opens it, and paper shows everything.
  const openTarget = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) (target.closest("details") ?? target.querySelector(":scope > details"))?.setAttribute("open", "");
  };
  let closed = [];
  addEventListener("hashchange", openTarget);
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
  openTarget();

  // What a place says is shown at once, and to a finger, too; without this script browsers show it after a while.
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;
  const words = (place) => {
    const title = place.querySelector(":scope > title");
    const found = title?.textContent ?? place.getAttribute("title");
    if (found) place.dataset.words = found;
    title?.remove();
    place.removeAttribute("title");
    return place.dataset.words;
  };
  const show = (event) => {
    const place = event.target.closest(".hover > *, [title], [data-words]");
    tip.hidden = !place;
    if (!place) return;
    tip.textContent = words(place);
    const box = place.getBoundingClientRect();
    const left = Math.min(box.left + box.width / 2 + 8, innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 4)}px`;
  };
  for (const kind of ["pointerover", "pointerdown"]) document.addEventListener(kind, show);
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });

  const boards = [...document.querySelectorAll("table[data-sorts]")];
  if (!boards.length) return;
  const find = document.getElementById("find");
  const task = document.getElementById("task");
  const count = document.getElementById("count");

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value === undefined) return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };

  const sort = (board, head) => {
    const heads = [...board.tHead.rows[0].cells];
    const column = heads.indexOf(head);
    const first = head.querySelector("button").dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = head.getAttribute("aria-sort") === first ? other : first;
    const sign = direction === "ascending" ? 1 : -1;
    for (const one of heads) if (one.hasAttribute("aria-sort")) one.setAttribute("aria-sort", one === head ? direction : "none");
    const ordered = [...board.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [valueOf(a, column), valueOf(b, column)];
      if (x === null || y === null) return (x === null) - (y === null); // what is missing stays last
      return sign * (typeof x === "string" ? x.localeCompare(y, "en") : x - y);
    });
    board.tBodies[0].append(...ordered);
  };

  const filter = () => {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = task?.value ?? "";
    let shown = 0, all = 0;
    for (const board of boards) {
      let here = 0;
      for (const row of board.tBodies[0].rows) {
        const text = row.querySelector(".name").textContent.toLowerCase();
        const of_task = chosen === "" || [...row.cells].some((cell) => cell.dataset.task === chosen && cell.dataset.value);
        row.hidden = !(of_task && wanted.every((word) => text.includes(word)));
        here += !row.hidden;
        all += 1;
      }
      shown += here;
      board.closest("section").hidden = !here;
      if (chosen) board.dataset.task = chosen; else delete board.dataset.task;
      for (const cell of board.querySelectorAll("[data-task]")) cell.classList.toggle("picked", cell.dataset.task === chosen);
    }
    count.textContent = `${shown} of ${all} rows`;
  };

  for (const board of boards) {
    for (const head of board.querySelectorAll("th[aria-sort]")) {
      head.querySelector("button").addEventListener("click", () => sort(board, head));
    }
  }
  find.addEventListener("input", filter);
  task?.addEventListener("change", filter);
  find.form.addEventListener("submit", (event) => event.preventDefault());
  filter(); // a browser may keep what was typed over a reload
})();
