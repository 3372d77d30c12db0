"use strict";
(() => {
  const board = document.getElementById("board");

  // A link into a closed part opens it, and paper shows everything.
  const openTarget = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) target.closest("details")?.setAttribute("open", "");
  };
  let closed = [];
  addEventListener("hashchange", openTarget);
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
  openTarget();
  if (!board) return;

  const body = board.tBodies[0];
  const rows = [...body.rows];
  const heads = [...board.tHead.rows[0].cells];
  const find = document.getElementById("find");
  const protocol = document.getElementById("protocol");
  const task = document.getElementById("task");
  const count = document.getElementById("count");

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value === undefined) return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };

  const sort = (head) => {
    const column = heads.indexOf(head);
    const first = head.querySelector("button").dataset.first ?? "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = head.getAttribute("aria-sort") === first ? other : first;
    const sign = direction === "ascending" ? 1 : -1;
    heads.forEach((one) => one.setAttribute("aria-sort", one === head ? direction : "none"));
    const ordered = [...rows].sort((a, b) => {
      const [x, y] = [valueOf(a, column), valueOf(b, column)];
      if (x === null || y === null) return (x === null) - (y === null); // what is missing stays last
      return sign * (typeof x === "string" ? x.localeCompare(y, "en") : x - y);
    });
    body.append(...ordered);
  };

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.querySelector(".name").textContent.toLowerCase();
      const of_task = task.value === "" || [...row.cells].some((cell) => cell.dataset.task === task.value && cell.dataset.value);
      const of_protocol = protocol.value === "" || row.dataset.protocol === protocol.value;
      row.hidden = !(of_task && of_protocol && words.every((word) => text.includes(word)));
      shown += !row.hidden;
    }
    if (task.value) board.dataset.task = task.value; else delete board.dataset.task;
    for (const cell of board.querySelectorAll("[data-task]")) cell.classList.toggle("picked", cell.dataset.task === task.value);
    count.textContent = `${shown} of ${rows.length} rows`;
  };

  for (const head of heads) head.querySelector("button").addEventListener("click", () => sort(head));
  find.addEventListener("input", filter);
  for (const select of [protocol, task]) select.addEventListener("change", filter);
  find.form.addEventListener("submit", (event) => event.preventDefault());
  if (find.value || protocol.value || task.value) filter(); // a browser may keep them over a reload
})();
