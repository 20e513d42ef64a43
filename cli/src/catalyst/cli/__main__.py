"""`catalyst`: the version at once, everything else through the door. Whatever happens, no traceback."""

import os
import sys

VERSION = "0.1.0"
BUG = 70


def main() -> None:
    """The console script. Exits with the code of `running`."""
    try:
        if sys.argv[1:] == ["--version"]:
            sys.stdout.write(f"catalyst {VERSION}\n")
            return
        shell = os.environ.get("_CATALYST_COMPLETE", "").removeprefix("complete_")
        if shell in ("bash", "zsh", "fish"):
            from catalyst.cli.completion import complete

            text, code = complete(shell, os.environ)
            sys.stdout.write(f"{text}\n" if text else "")
            sys.exit(code)
        from catalyst.cli.door import app

        app(prog_name="catalyst")
    except BrokenPipeError:  # whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 -- the last line of defence: a person reads this, not a program
        sys.stderr.write(f"catalyst: a bug: {type(error).__name__}: {error}\nPlease report what you ran, and this.\n")
        sys.exit(BUG)


if __name__ == "__main__":
    main()
