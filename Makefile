# One door for every chore. `make` alone prints this help.
PYTHON ?=
PY := .venv/bin/python
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup python check test test-full scale bench generate dev demo demo-push demo-break demo-close \
	demo-shell demo-down cluster-up cluster-down cluster-status replay corpus lock clean chaos

help: ## this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is needed: Python packages into .venv, the cluster's binaries into the cache
	@tools/setup

python:
	@tools/setup --python

check: python ## ruff, mypy --strict, import-linter, generated files current
	@$(PY) tools/check.py

test: setup ## all tests on real servers; long matrices as a sample (make test PARTS="unit stories")
	@$(PY) tools/run_tests.py $(PARTS)

test-full: setup ## all tests, long matrices whole; continues after the last part that passed
	@$(PY) tools/run_tests.py --full $(PARTS)

scale: setup ## bursts scale services up and back, leaders fail over: KEDA on the node (builds it, 10 minutes, once)
	@$(PY) tools/run_tests.py scaling

bench: setup ## benchmarks beside their physical limits: bench/results.json and docs/benchmarks.md
	@$(PY) -m bench

chaos: setup ## 200 faults on the node while pull requests come and go (ARGS="--faults 20 --seed 7", ARGS=--planted)
	@$(PY) -m chaos $(ARGS)

replay: python ## recorded decisions, decided again by this code; how much of the rules they pass (ACCEPT=1: it is meant)
	@$(PY) tools/replay_corpus.py $(if $(ACCEPT),--accept)

corpus: setup ## record these decisions anew, from all stories (NODE=1: on the node; TESTS="FILE …": of these)
	@$(PY) tools/replay_corpus.py --record $(if $(NODE),--node) $(TESTS)

generate: python ## CRDs, schemas, AsyncAPI and reference from the models; example payloads into tests/data
	@$(PY) tools/fetch_examples.py
	@$(PY) tools/fetch_asyncapi.py
	@$(PY) tools/fetch_cdevents.py
	@$(PY) tools/fetch_openapi.py
	@$(PY) tools/generate.py

dev: python ## a whole installation on this machine, with an example pull request (ARGS=--once ends after it)
	@$(PY) -m catalyst.local dev $(ARGS)

demo: python ## a pull request becomes a running URL, from nothing (EXAMPLE=hello|shop|notes, or REPO=path of yours)
	@$(PY) -m catalyst.local demo up $(if $(REPO),--repo $(REPO)) $(if $(EXAMPLE),--example $(EXAMPLE))

demo-push: python ## a new commit: the next version comes without an outage
	@$(PY) -m catalyst.local demo push

demo-break: python ## a commit that fails: the comment says why (BREAK=build|app)
	@$(PY) -m catalyst.local demo break $(if $(BREAK),--how $(BREAK))

demo-close: python ## close the pull request: everything goes
	@$(PY) -m catalyst.local demo close

demo-shell: python ## a shell for who is on call: kubectl, catalyst, the demo's keys, NATS forwarded (docs/incidents.md)
	@$(PY) -m catalyst.local demo shell

demo-down: python ## end the demo and its cluster; nothing of it stays but what was built
	@$(PY) -m catalyst.local demo down

cluster-up: python ## a whole Kubernetes on this machine, pods included; needs root on Debian, says what it installs
	@$(PY) -m catalyst.local cluster up

cluster-down: python ## end it; nothing of it stays but what was built
	@$(PY) -m catalyst.local cluster down

cluster-status: python ## its parts, pods, logs, and what was started again
	@$(PY) -m catalyst.local cluster status

lock: ## resolve requirements.in into requirements.lock: exact, hashed, without hosts (ARGS=--upgrade)
	@tools/setup --python --before-lock
	@.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--quiet --output-file requirements.lock $(ARGS) requirements.in
	@for name in requirements build; do \
		.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet \
			--constraint requirements.lock --output-file deploy/images/$$name.lock deploy/images/$$name.in || exit 1; done
	@! grep -nE '^ *--(index|extra|find)|://' requirements.lock deploy/images/*.lock || { echo 'a lock names a host' >&2; exit 1; }

clean: ## remove what was generated here: .venv, caches, .run (the binaries' cache stays)
	@[ ! -e .run/demo/supervisor.json ] || $(PY) -m catalyst.local demo down
	@[ ! -e .run/cluster/state.json ] || $(PY) -m catalyst.local cluster down
	@rm -rf .venv .run .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
