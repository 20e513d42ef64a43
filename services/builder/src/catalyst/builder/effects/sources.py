"""What the forge gives builder: read tokens for one repository, contents only, when a build starts; and before that
what lies in a commit, by git's ids alone.
"""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from catalyst.builder.core.build import Build, Refusal, Source
from catalyst.events.errors import Retry
from catalyst.forge.errors import ForgeError, ForgeUnavailable, RateLimited
from catalyst.forge.protocol import ForgeSources, TreeEntry

log = structlog.get_logger()

PERMISSIONS = {"contents": "read"}
FOLDER: Final = "040000"
FILE: Final = "100"
"""git's mode of a folder, and how that of a file begins; a link's is another."""
WITHIN: Final = 3.0
"""Seconds that the forge may take to say what is in a commit; a Job finds out, too."""


class ReadTokens:
    """`forge` None: nothing is configured, public repositories are fetched by nobody in particular."""

    def __init__(self, forge: ForgeSources | None) -> None:
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


class Fingerprints:
    """By which word `fetch.sh` knows what a component is built from: told by the forge, so that a commit that changes
    nothing of it needs no Job that says so. `forge` None: only Jobs can tell.
    """

    def __init__(self, forge: ForgeSources | None) -> None:
        self._forge = forge

    async def of(self, build: Build) -> str | None:
        """None when the forge does not tell, not at once, or something is amiss with the paths: then a Job looks."""
        if self._forge is None:
            return None
        try:
            async with asyncio.timeout(WITHIN):
                return await _Folders(self._forge, build.source).fingerprint(build)
        except (ForgeError, TimeoutError) as error:
            log.info("a Job has to look what is in a commit", commit=build.source.commit, reason=str(error)[:200])
            return None


class _Folders:
    """The folders of one commit, each asked for once."""

    def __init__(self, forge: ForgeSources, source: Source) -> None:
        self._forge = forge
        self._source = source
        self._known: dict[str, dict[str, TreeEntry]] = {}

    async def fingerprint(self, build: Build) -> str | None:
        """As `fetch.sh` makes it. Raises ForgeError."""
        root = TreeEntry(FOLDER, await self._forge.tree_of(self._source.repository, self._source.commit))
        dockerfile = build.dockerfile.removeprefix("./")
        context = build.context.removeprefix("./").removesuffix("/")
        found = [
            await self._find(root, path)
            for path in ("" if context == "." else context, dockerfile, f"{dockerfile}.dockerignore")
        ]
        folder, file, ignored = found
        if folder is None or folder.mode != FOLDER or file is None or not file.mode.startswith(FILE):
            return None
        return f"{folder.id}.{file.id}.{ignored.id if ignored else 'none'}.{build.inputs}"

    async def _find(self, root: TreeEntry, path: str) -> TreeEntry | None:
        """None when it is not there."""
        found: TreeEntry | None = root
        for name in path.split("/") if path else ():
            if found is None or found.mode != FOLDER:
                return None
            if found.id not in self._known:
                self._known[found.id] = dict(await self._forge.tree(self._source.repository, found.id))
            found = self._known[found.id].get(name)
        return found
