"""The command that prints what a shell needs to complete commands, options and names."""

from typing import Annotated, Literal


def completion(shell: Annotated[Literal["bash", "zsh", "fish", "powershell"], "yours"]) -> int:
    """Print the lines with which a shell completes commands, options and names.

    docs/command_line.md says where each shell looks for them.

    Examples:
      ssl4eo-bench completion bash
      ssl4eo-bench completion fish
    """
    from argcomplete.shell_integration import shellcode  # for completion alone

    print(shellcode(["ssl4eo-bench"], shell=shell), end="")
    return 0
