"""`python -m deploy.local up|down|status|logs|scale|clean`, behind the targets of the Makefile; and `operate`."""

import argparse
import sys

from deploy.local import LocalStackError, stack, status
from deploy.local.layout import Layout, hold_lock


def main() -> int:
    """Exit 0 when what was asked for is done, 1 with the reason otherwise."""
    arguments = _parser().parse_args()
    try:
        return _run(arguments)
    except LocalStackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "status":
            text, is_healthy = status.table(Layout.load())
            print(text)
            return 0 if is_healthy else 1
        case "logs":
            stack.logs(arguments.service, arguments.lines, follow=arguments.follow)
            return 0
        case "operate":
            stack.operate(arguments.words)
    with hold_lock():
        match arguments.command:
            case "up":
                credentials = stack.up()
                print(status.welcome(Layout.load(), credentials))
            case "down":
                stack.down()
            case "scale":
                stack.scale(arguments.service, arguments.count)
            case "clean":
                stack.clean()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down", "status", "clean"):
        commands.add_parser(name)
    logs = commands.add_parser("logs")
    logs.add_argument("service", nargs="?")
    logs.add_argument("--lines", type=int, default=50)
    logs.add_argument("--follow", action="store_true")
    operate = commands.add_parser("operate", help="a command of services.cli on the local databases")
    operate.add_argument("words", nargs=argparse.REMAINDER)
    scale = commands.add_parser("scale")
    scale.add_argument("service")
    scale.add_argument("count")
    return parser


if __name__ == "__main__":
    sys.exit(main())
