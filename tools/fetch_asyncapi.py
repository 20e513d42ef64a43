"""Fetch the JSON Schema of AsyncAPI, pinned, into tests/data/asyncapi. `make generate` calls it."""

import json
import sys

from npm_package import DATA, Files, Package

PACKAGE = Package(
    "@asyncapi/specs",
    "6.11.1",
    "sha512-A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ==",
)


def contents(files: Files) -> dict[str, str]:
    """File name → text."""
    schema = files.json("schemas/3.1.0.json")
    return {
        "asyncapi-3.1.0.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        "LICENSE": files.text("LICENSE"),
        "NOTICE": files.text("NOTICE"),
    }


if __name__ == "__main__":
    sys.exit(PACKAGE.main(DATA / "asyncapi", contents, __doc__))
