"""env-controller: decides which environments exist and materialises them.

Facts about pull requests and branches become `Environment` resources; every `Environment` becomes a namespace with
its whole baseline. It never reads a forge, never writes to one, and never deletes without evidence recorded in the
resource.
"""
