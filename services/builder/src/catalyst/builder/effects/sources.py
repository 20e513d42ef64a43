"""Read tokens from the forge: for one repository, contents only, and only when a build starts."""

from datetime import timedelta

from catalyst.builder.core.build import Refusal, Source
from catalyst.events.errors import Retry
from catalyst.forge.errors import ForgeError, ForgeUnavailable, RateLimited
from catalyst.forge.protocol import ForgeTokens

PERMISSIONS = {"contents": "read"}


class ReadTokens:
    """`forge` None: nothing is configured, public repositories are fetched by nobody in particular."""

    def __init__(self, forge: ForgeTokens | None) -> None:
        self._forge = forge

    async def token(self, source: Source) -> str | Refusal:
        """The token, "" when none is needed, or why there is none. Raises Retry while the forge cannot say."""
        if self._forge is None:
            if not source.private:
                return ""
            return Refusal(
                "SourceCredentialMissing",
                f"the repository {source.repository} is private and builder has no sign-in at the forge. "
                "The platform's people configure a GitHub App.",
            )
        try:
            token = await self._forge.token(source.repository, PERMISSIONS)
        except RateLimited as error:
            raise Retry(str(error), timedelta(seconds=error.retry_after)) from error
        except ForgeUnavailable as error:
            raise Retry(str(error), timedelta(seconds=10)) from error
        except ForgeError as error:
            if not source.private:
                return ""  # the App is not installed there, but everybody may read it
            return Refusal(
                "SourceNotReadable",
                f"the forge gives no read access to {source.repository}: {error.reason[:200]}. {error.remedy}.",
            )
        return token.value.get_secret_value()
