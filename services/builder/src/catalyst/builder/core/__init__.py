"""What builder decides, as pure functions over values: no I/O, no clock, no randomness of their own.

```
platform    what the people who installed Catalyst decided
build       a request, checked: what is to be built, from where, under which names
judgement   is this request still the question the environment asks?
executor    how a build runs, as an interface; kaniko is the first
job         the Job around an executor's pod, and what can be read back from it
namespace   the build namespace and its baseline
queue       whose turn it is
outcome     what became of a build
logs        the end of a log, without secrets
access      who may pull and push what at the registry
tokens      the realm's signed tokens and the builds' credentials
records     which digest was built for which key
```
"""
