"""What can be asked about an installation, whichever door it is asked at: each operation reads the bus, lets `core`
find what it says, and returns values. None of them prints, and none knows of a command line.

```
environments   list, show (at a time, too), timeline (followed, too), diff, why
events         tail, show, replay
status         streams, consumers, leaders, dead letters
dead           list, show, resend, drop
audit          list, show, links (what verify, export and checkpoint read)
```

Errors:

```
NotThere    nothing of that name or number; the nearest names, or the oldest that can be shown
Refused     it would do harm, or is done already in another way; the reason says which
BusError    the bus failed (catalyst.events.errors)
```
"""


class NotThere(Exception):
    """What was asked for does not exist. The message says what comes nearest."""


class Refused(Exception):
    """It is not done; the message says why, and what to do instead."""
