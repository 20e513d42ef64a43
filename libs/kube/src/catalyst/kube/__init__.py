"""catalyst.kube: everything between our services and a Kubernetes API server.

client.py talks, reflector.py mirrors, queue.py orders the work, lease.py says who may write, drift.py asks whether
somebody else wrote. It decides nothing about environments and knows no event bus. Import from the modules; this file
stays empty.
"""
