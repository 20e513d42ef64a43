"""`kubectl delete` of a namespace, until it is gone.

Arguments: kubectl, kubeconfig, namespace. Answers: seconds.
"""

import subprocess
import time

from bench.limits.arguments import answer, given


def main() -> None:
    arguments = given()
    command = [arguments["kubectl"], "--kubeconfig", arguments["kubeconfig"], "delete", "namespace"]
    began = time.perf_counter()
    subprocess.run([*command, arguments["namespace"]], check=True, capture_output=True, timeout=300)
    answer(seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
