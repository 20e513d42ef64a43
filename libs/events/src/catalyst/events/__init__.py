"""What happened, told once and kept: the event catalogue, its CloudEvents form on NATS, and the bus.

```
subjects · catalogue · event · binding · topology · users · schemas · asyncapi   pure
bus (consuming, reading, replaying) · applying · keys                            effects
```

This room knows events and NATS. It never knows the cluster, a forge, or what a service does with an event.
"""
