"""`python -m chaos`: the whole product on the node is struck while pull requests come and go, and compared afterwards
with what it would be undisturbed.

    plan.py        which faults, from a seed                 ┐
    ledger.py      what each of them hit, and by which sign  │ pure
    comparison.py  two environments, without what may differ ┘
    setting.py     the installation: three NATS servers, disks that can be filled, clocks that can be moved
    undo.py        what goes back by itself, even when the run is killed
    victims.py     processes of pods and of the node
    strikes.py     kill, freeze, cut off, fill, move the clock: each with its evidence
    traffic.py     pull requests that are opened, pushed to, closed and reopened
    bus.py         what the streams hold
    checks.py      what must hold in the end
    planted.py     five bugs, each found
    run.py         all of it, in order
"""
