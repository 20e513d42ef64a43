"""A schema as a table: references followed, lists and maps marked, cycles cut."""

from pydantic import BaseModel, Field

from catalyst.model.reference import field_table


class Leaf(BaseModel):
    amount: int | str = Field(default=3, description="How much,\n or `all` | `none`.")


class Node(BaseModel):
    leaves: list[Leaf]
    by_name: dict[str, Leaf] = {}
    parent: "Node | None" = None


def test_every_field_has_a_line() -> None:
    lines = field_table(Node.model_json_schema()).splitlines()[2:]
    assert lines == [
        "| `leaves` | list of object | required |  |",
        "| `leaves[].amount` | integer or string | `3` | How much, or `all` \\| `none`. |",
        "| `by_name` | map to object |  |  |",
        "| `by_name{}.amount` | integer or string | `3` | How much, or `all` \\| `none`. |",
        "| `parent` | object |  |  |",
    ]
