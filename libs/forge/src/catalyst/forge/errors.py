"""What can be wrong with a webhook. Each message is for whoever configured the hook, and repeats no secret.

```
BadWebhook
├─ BadSignature   not signed, or not by a secret of ours: nothing else about it was looked at
└─ BadPayload     signed, but not what the forge documents: `field` and what was `expected`
```
"""


class BadWebhook(Exception):
    """The sender has to change something; sending it again will not help."""


class BadSignature(BadWebhook):
    """Not signed, or not by any of the secrets."""


class BadPayload(BadWebhook):
    """A header or a field is missing or wrong. `field` in the forge's own words: `pull_request.head.sha`."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: {expected}")
        self.field = field
        self.expected = expected
