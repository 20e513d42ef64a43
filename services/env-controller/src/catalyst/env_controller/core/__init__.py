"""Pure decisions: facts, resources and a clock reading go in, a `Decision` comes out. Nothing here does I/O.

facts.py        the fold: every delivery of one pull request or branch → its present state
triggers.py     does this Project want an environment for that state, and may it start by itself?
requests.py     state + Project + what exists → create, update, remove or leave the Environment
acceptance.py   is what the resource asks for allowed, and is all of it implemented?
platform.py     what the people who installed Catalyst decided (zone, edge, protected networks)
baseline.py     the objects every environment gets, one small maker each
world.py        World (what is) and Decision (what to do), both round-trip as JSON
environment.py  decide(environment, world, now)
project.py      decide_project(project, world, now)
"""
