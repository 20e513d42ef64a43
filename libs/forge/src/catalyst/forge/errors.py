"""What can be wrong with a webhook, and what a forge's API can answer. No message repeats a secret.

```
BadWebhook        for whoever configured the hook
├─ BadSignature     not signed, or not by a secret of ours: nothing else about it was looked at
└─ BadPayload       signed, but not what the forge documents: `field` and what was `expected`
ForgeError        for the operator: `status`, what was `asked`, and the `remedy`
├─ Unauthorized     the credential is not accepted: asking again will not help
├─ NotPermitted     accepted, but it may not do this
├─ NotThere         no such repository, pull request or comment, or this sign-in may not know of it
├─ Refused          the forge understood and will not: a field is wrong, or the state does not allow it
├─ RateLimited      asked too much; `retry_after` seconds until it makes sense again
└─ ForgeUnavailable no answer, a 5xx, or nothing that can be understood: ask again later
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


class ForgeError(Exception):
    """A forge's API did not do what was asked. `status` is HTTP's, None when there was no answer."""

    remedy: str = "look at the forge's message"

    def __init__(self, asked: str, reason: str, *, status: int | None = None, remedy: str | None = None) -> None:
        self.asked = asked
        self.reason = reason
        self.status = status
        self.remedy = remedy or type(self).remedy
        answered = f" ({status})" if status else ""
        super().__init__(f"{asked}: {reason}{answered}; {self.remedy}")


class Unauthorized(ForgeError):
    """The credential is not accepted."""

    remedy = "check the App's id and private key, or the token, and this machine's clock"


class NotPermitted(ForgeError):
    """The credential is good, but not for this."""

    remedy = "give the App or the token the permission that is missing, and accept it at the installation"


class NotThere(ForgeError):
    """It does not exist, or not for us: GitHub answers both alike."""

    remedy = "check the name, and that the App is installed on this repository"


class Refused(ForgeError):
    """The forge understood the request and will not do it."""

    remedy = "the request has to change: sending it again will not help"


class ForgeUnavailable(ForgeError):
    """No answer, a 5xx, or an answer that cannot be understood."""

    remedy = "it is asked again later; look at the forge's status page if this lasts"


class RateLimited(ForgeError):
    """The forge wants to be left alone for `retry_after` seconds."""

    remedy = "wait; if this happens often, ask less or share the limit among fewer services"

    def __init__(self, asked: str, reason: str, *, retry_after: float, status: int | None = None) -> None:
        super().__init__(asked, f"{reason}, free again in {retry_after:.0f} s", status=status)
        self.retry_after = retry_after
