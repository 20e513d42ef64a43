# Fetches one commit of one repository into /workspace/source. Runs in the build's init container, before anything of
# the repository could run. Everything comes by environment variables, checked by builder, and nothing is ever expanded
# into a command: SOURCE_URL, SOURCE_COMMIT, DOCKERFILE, CONTEXT, INPUTS, KNOWN, TOKEN_FILE, RESULT.
#
# RESULT is what builder reads: "source <fingerprint>", "unchanged <fingerprint>", or "<Reason>: <sentence>".
set -eu
umask 022 # the files' modes become the image's: what runs there is often not root

fail() { printf '%s: %s' "$1" "$2" >"$RESULT"; printf '%s\n' "$2" >&2; exit 1; }

export GIT_DIR="$WORKSPACE/git" GIT_WORK_TREE="$WORKSPACE/source" GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1 LC_ALL=C
export GIT_CONFIG_GLOBAL=/dev/null GIT_ALLOW_PROTOCOL="${SOURCE_URL%%:*}" GIT_ATTR_NOSYSTEM=1

# The credential is offered to this one repository only, and git follows no redirect: neither another host nor a
# submodule can ask for it. Hooks, filters and submodules of the repository are never run.
set -- credential.useHttpPath true http.followRedirects false submodule.recurse false core.hooksPath /dev/null \
  http.lowSpeedLimit 1000 http.lowSpeedTime 30 gc.auto 0 advice.detachedHead false init.defaultBranch none
if [ -s "$TOKEN_FILE" ]; then
  set -- "$@" "credential.$SOURCE_URL.helper" \
    '!f() { test "$1" != get || printf "username=x-access-token\npassword=%s\n" "$(cat "$TOKEN_FILE")"; }; f'
fi
GIT_CONFIG_COUNT=0
while [ $# -gt 0 ]; do
  export "GIT_CONFIG_KEY_$GIT_CONFIG_COUNT=$1" "GIT_CONFIG_VALUE_$GIT_CONFIG_COUNT=$2"
  GIT_CONFIG_COUNT=$((GIT_CONFIG_COUNT + 1))
  shift 2
done
export GIT_CONFIG_COUNT

rm -rf "$GIT_DIR" "$GIT_WORK_TREE"
mkdir -p "$GIT_DIR" "$GIT_WORK_TREE"
chmod g-s "$GIT_WORK_TREE" # a volume's group would otherwise mark every folder of the image
case ${#SOURCE_COMMIT} in 40) format=sha1 ;; *) format=sha256 ;; esac
env -u GIT_WORK_TREE git init --quiet --bare --object-format="$format"

attempt=1
until git fetch --quiet --depth=1 --no-tags --no-recurse-submodules --no-write-fetch-head -- \
  "$SOURCE_URL" "$SOURCE_COMMIT" 2>"$WORKSPACE/errors"; do
  cat "$WORKSPACE/errors" >&2
  case $(cat "$WORKSPACE/errors") in
  *'not our ref'* | *'remote ref'* | *'unadvertised object'* | *'upload-pack: not our'*)
    fail CommitNotFound "the repository has no commit $SOURCE_COMMIT: it was removed by a forced push. Push again." ;;
  *'could not read Username'* | *'could not read Password'* | *'Authentication failed'* | *'not found'* | *'error: 403'*)
    fail SourceNotReadable "the repository $SOURCE_URL cannot be read: it is not there, or Catalyst has no access. Install Catalyst's GitHub App for it." ;;
  *'error: 301'* | *'error: 302'* | *'error: 307'* | *'error: 308'*)
    fail SourceMoved "the repository $SOURCE_URL has moved, and redirects are not followed. Name its new place in the Project." ;;
  esac
  [ "$attempt" -lt 3 ] || fail SourceUnavailable "the repository $SOURCE_URL could not be fetched in three attempts: the forge does not answer. Try again later."
  sleep $((attempt * attempt * 2))
  attempt=$((attempt + 1))
done

# No name can stand for the commit: there are no references here, and what was fetched must have exactly this id.
[ "$(git rev-parse --verify --quiet --end-of-options "$SOURCE_COMMIT^{commit}")" = "$SOURCE_COMMIT" ] ||
  fail CommitNotFound "$SOURCE_COMMIT is no commit of $SOURCE_URL."

# The tree, not the checked-out files: a symbolic link is never followed out of the repository.
kind() { git ls-tree --full-tree "$SOURCE_COMMIT" -- ":(literal)$1" | cut -d' ' -f1; }
id() { git rev-parse --verify --quiet --end-of-options "$SOURCE_COMMIT:$1" || echo none; }

dockerfile=${DOCKERFILE#./}
context=${CONTEXT#./}
context=${context%/}
case $context in '' | .) tree=$(id '') ;; *)
  [ "$(kind "$context")" = 040000 ] || fail ContextNotFound "build.context $CONTEXT is no folder of the repository at this commit. Correct it in the Project."
  tree=$(id "$context")
  ;;
esac
case $(kind "$dockerfile") in 100*) ;; 120000)
  fail DockerfileNotFound "build.dockerfile $DOCKERFILE is a symbolic link. Name the file itself in the Project." ;; *)
  fail DockerfileNotFound "the repository has no file $DOCKERFILE at this commit. Add it, or name another in the Project (build.dockerfile)." ;;
esac
fingerprint="$tree.$(id "$dockerfile").$(id "$dockerfile.dockerignore").$INPUTS"
case " $KNOWN " in *" $fingerprint "*)
  # Not an error, but the only way to say that nothing needs to be built.
  printf 'unchanged %s' "$fingerprint" >"$RESULT"
  exit 10
  ;;
esac

git checkout --quiet --detach "$SOURCE_COMMIT"
rm -rf "$GIT_DIR" "$WORKSPACE/errors"
printf 'source %s' "$fingerprint" >"$RESULT"
