"""From `build.requested` to `build.finished` and `build.cleaned`: real API server, Job controller, NATS and registry."""

import asyncio
from typing import Any

from building import Project, until

from catalyst.model.environment import Phase


async def test_a_request_becomes_an_image(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}))
    await project.ask(project.request())
    job = await project.job()
    assert job["spec"]["template"]["spec"]["hostUsers"] is False
    digest = await project.succeeds(job)
    answer = await project.answer()
    assert (answer["outcome"], answer["digest"], answer["key"], answer["attempt"]) == ("succeeded", digest, "k1", 1)
    assert answer["image"] == f"{project.registry.host}/{project.team}/shop/web"
    assert (answer["ports"], answer["user"]) == ([8080], "app")
    name = job["metadata"]["name"]

    async def without_secrets() -> bool:
        return project.secret(f"{name}-push") is None and project.secret(f"{name}-read") is None

    await until(without_secrets, "the credentials are taken away")

    # Asked again, also under another attempt: nothing is built, and the answer is one that is heard.
    await project.ask(project.request(), again=1)
    assert (await project.answer(2))["digest"] == digest
    await project.tell(project.snapshot({"web": ("k1", 2)}))
    await project.ask(project.request(attempt=2))
    assert (await project.answer(3))["attempt"] == 2
    assert len(project.jobs()) == 1

    # The environment goes: so do Job, record and image.
    await project.tell(project.snapshot({"web": ("k1", 2)}, phase=Phase.TERMINATING))
    assert (await project.answer(verb="cleaned"))["environment"]["uid"] == f"uid-{project.team}-pr-1"
    assert project.jobs() == []
    where = f"/api/v1/namespaces/{project.namespace()}"
    records = project.get(f"{where}/configmaps?labelSelector=catalyst.dev/build-record")["items"]
    assert not records
