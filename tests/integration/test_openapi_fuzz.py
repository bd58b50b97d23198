"""Requests are generated from the three OpenAPI documents, and the services respond as the documents say."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.admin_api import register_one_of_each
from tests.support.polling import PATIENCE_S
from tests.support.read_model import add_system, add_token
from tests.support.rebuild import QUICK, WORKERS, assert_nothing_to_correct
from tests.support.registry import register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
EXAMPLES = 5


Known = Mapping[str, Mapping[str, str]]


def faults_of(url: str, headers: Mapping[str, str], known: Known) -> list[str]:
    """Call every operation with what fits its description and with what does not; what was answered otherwise.

    `known` are ids of things that are there: `{path as documented up to a point: {parameter: id}}`.
    """
    faults = []
    for found in schemathesis.openapi.from_url(f"{url}/openapi/v1.json").get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        ids = _ids(operation.path, known)
        for mode in MODES:
            for path_parameters in (None, ids) if ids else (None,):
                try:
                    _call(operation, mode, path_parameters, headers)
                except BaseExceptionGroup as group:
                    faults += [f"{operation.label} {mode}: {error}" for error in group.exceptions]
    return faults


def _ids(path: str, known: Known) -> dict[str, str]:
    given = [ids for start, ids in known.items() if path.startswith(start)]
    return {name: value for ids in given for name, value in ids.items() if f"{{{name}}}" in path}


def _call(operation: Any, mode: GenerationMode, ids: Mapping[str, str] | None, headers: Mapping[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode, path_parameters=ids))
    def check(case: Any) -> None:
        case.call_and_validate(headers=dict(headers), checks=CHECKS, timeout=PATIENCE_S)

    check()


@pytest.mark.parametrize("service", ["gateway", "admin", "query"])
async def test_what_is_documented_is_what_is_answered(stack: Stack, service: str) -> None:
    async with run_services(stack, service, settings=QUICK) as services:
        headers = {"Authorization": f"Bearer {services.admin_token}"}
        known: Known = {}
        if service == "gateway":
            headers = {"X-Api-Key": (await register_system(stack)).api_key}
        elif service == "query":
            headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
            known = {"/api/events/partner-system": {"partnerSystemId": str((await add_system(stack)).id)}}
        else:
            things = await register_one_of_each(services)
            known = {
                "/api/partners/": {"id": things.partner},
                "/api/partnersystems/": {"id": things.system, "key_id": things.key},
                "/api/eventstructures/": {"id": things.structure, "version": "1"},
                "/api/tokens/": {"id": things.access_token},
            }

        faults = await asyncio.to_thread(faults_of, services.url(service), headers, known)

        assert not faults, "\n\n".join(faults)
        assert "unexpected failure" not in services.log(service)
        if service == "gateway":
            await services.start(*WORKERS)
            await assert_nothing_to_correct(services, stack)
