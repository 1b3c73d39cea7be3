"""The LiteLLM strategy with the real Router, whose deployments a small server stands in for."""

import asyncio
import importlib.util
import logging
import os
import threading
import time
import warnings
from collections import Counter

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, InvalidInputError
from support.programs import ran
from support.provider import SHARED, shared_provider, stand_in

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("litellm") is None,
        reason="litellm is not installed: pip install -e '.[litellm]'",
    ),
    # Its own and those of what it imports.
    pytest.mark.filterwarnings("ignore"),
]

SHORT = [{"role": "user", "content": "hello"}]
LONG = [{"role": "user", "content": "hello " * 400}]


@pytest.fixture(scope="module", name="live")
def _live():
    """The module under test; importing LiteLLM would ask the network for prices."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from calibration_ledger.live import litellm as module
    return module


@pytest.fixture
def provider(request):
    """Two models, of which one is quick to begin, and the other one quick to read."""
    if getattr(request, "param", "ours") == "ours":
        made = stand_in()
    elif SHARED.exists():
        made = shared_provider()
    else:
        pytest.skip(f"{SHARED} is not there")
    with made as opened:
        opened.takes("begins", 2, 0.1)
        opened.takes("reads", 20)
        yield opened


@pytest.fixture(name="router")
def _router(live, provider):
    return router_of(provider.url, "begins", "reads")


def router_of(url, *models, **more):
    from litellm import Router

    deployments = [
        {
            "model_name": "any",
            "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": "x"},
            "model_info": {"id": name},
        }
        for name in models
    ]
    return Router(model_list=deployments, num_retries=2, retry_after=0, **more)


def use(router, strategy):
    """Register a strategy; before 1.109, the Router had another word for it."""
    register = getattr(router, "register_plugin", None) or router.set_custom_routing_strategy
    register(strategy)


@pytest.fixture(name="known")
def _known(ledger_path):
    """A ledger that knows both models: about 300 prompt tokens are the point where they meet."""
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        for i in range(40):
            p = 20 + 37 * i % 700
            calibrator.record_many(
                [
                    Call("openai/begins", p, 3, 20.0 + p, request_id=f"b{i}"),
                    Call("openai/reads", p, 3, 320.0 + i % 7, request_id=f"r{i}"),
                ]
            )
        yield calibrator
        assert calibrator.audit() == []


def asked_of(router, messages, how, model="any"):
    """The model that answered."""
    if how == "sync":
        return router.completion(model=model, messages=messages).model
    return asyncio.run(asking(router, messages, model)).model


async def asking(router, messages, model="any"):
    return await router.acompletion(model=model, messages=messages)


both_ways = pytest.mark.parametrize("how", ["sync", "async"])


both_stand_ins = pytest.mark.parametrize("provider", ["ours", "shared"], indirect=True)


@both_stand_ins
@both_ways
def test_the_router_asks_the_model_that_is_forecast_to_answer_soonest(live, router, known, how):
    use(router, live.ForecastStrategy(router, known, explore=0.0))
    assert asked_of(router, SHORT, how) == "begins"
    assert asked_of(router, LONG, how) == "reads"


def test_a_router_that_asks_a_server_picks_without_an_event_loop_too(live, router, known):
    strategy = live.ForecastStrategy(router, known, explore=0.0)
    healthy = strategy._healthy

    async def asking_a_server(*asked):
        await asyncio.sleep(0.01)
        return await healthy(*asked)

    strategy._healthy = asking_a_server

    async def inside():
        return strategy.get_available_deployment("any", LONG)

    assert live.id_of(strategy.get_available_deployment("any", LONG)) == "reads"
    assert live.id_of(asyncio.run(inside())) == "reads"


def test_a_text_completion_is_counted_too(live, known):
    assert live.prompt_tokens(None, "hello there", {}) == 2
    assert live.prompt_tokens(None, None, {"prompt": "hello there"}) == 2
    assert live.prompt_tokens(None, ["hello", "there"], {}) == 2
    assert live.prompt_tokens(None, None, {"messages": SHORT}) > 0
    with pytest.raises(ValueError, match="no prompt"):
        live.prompt_tokens(None, None, {})


@both_stand_ins
@both_ways
def test_a_retry_goes_to_a_deployment_that_has_not_failed(live, router, known, provider, how):
    use(router, live.ForecastStrategy(router, known, explore=0.0))
    provider.fails("begins")
    assert asked_of(router, SHORT, how) == "reads"
    assert provider.asked == ["begins", "reads"]


@both_ways
def test_a_deployment_on_cooldown_is_not_picked(live, provider, known, how):
    router = router_of(provider.url, "begins", "reads", allowed_fails=0, cooldown_time=60)
    use(router, live.ForecastStrategy(router, known, explore=0.0))
    provider.fails("begins")
    asked_of(router, SHORT, how)
    before = len(provider.asked)
    for _ in range(3):
        assert asked_of(router, SHORT, how) == "reads"
    assert provider.asked[before:] == ["reads"] * 3


@both_ways
def test_a_deployment_without_history_is_only_tried_by_lot(live, provider, known, how):
    provider.takes("new", 1)
    router = router_of(provider.url, "begins", "reads", "new")
    use(router, live.ForecastStrategy(router, known, explore=0.0))
    assert {asked_of(router, LONG, how) for _ in range(3)} == {"reads"}
    use(router, live.ForecastStrategy(router, known, explore=1.0))
    assert "reads" not in {asked_of(router, LONG, how) for _ in range(3)}


def test_the_lots_of_a_request_are_drawn_from_its_id(live, router, known):
    strategy = live.ForecastStrategy(router, known, explore=0.3)
    healthy = asyncio.run(strategy._healthy("any", SHORT, None, False, {}))
    picks = Counter()
    for i in range(100):
        request = {"litellm_trace_id": f"request {i}"}
        picked = {live.id_of(strategy._pick(healthy, SHORT, None, request)) for _ in range(2)}
        assert len(picked) == 1
        picks.update(picked)
    assert 15 < picks["reads"] < 45


@both_ways
def test_a_ledger_without_history_leaves_it_to_the_router(live, router, ledger_path, how, caplog):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        use(router, live.ForecastStrategy(router, calibrator, explore=0.0))
        assert {asked_of(router, SHORT, how) for _ in range(12)} == {"begins", "reads"}
    assert warned(caplog) == []


def warned(caplog):
    name = "calibration_ledger.live.litellm"
    return [one for one in caplog.records if one.name == name and one.levelno >= logging.WARNING]


@both_ways
def test_an_error_of_ours_breaks_no_request_and_is_told_once(live, router, known, how, caplog):
    def broken(_):
        raise ZeroDivisionError("a name that fails")

    use(router, live.ForecastStrategy(router, known, name=broken))
    assert {asked_of(router, SHORT, how) for _ in range(12)} == {"begins", "reads"}
    (record,) = warned(caplog)
    assert "ZeroDivisionError: a name that fails" in record.getMessage()


@both_ways
def test_a_ledger_that_hangs_delays_one_request_by_the_patience_and_no_other(
    live, router, known, how, caplog
):
    hanging = threading.Event()

    def hung(deployment):
        hanging.wait(20)
        return live.model_of(deployment)

    strategy = live.ForecastStrategy(router, known, explore=0.0, name=hung, patience_ms=50)
    use(router, strategy)
    asked_of(router, SHORT, how)
    assert strategy._submit([], SHORT, None, {}) is None  # nothing that could be waited for
    asked_of(router, SHORT, how)
    (record,) = warned(caplog)
    assert "TimeoutError" in record.getMessage()
    hanging.set()
    strategy._late.result(5)
    strategy._patience_s = 5.0
    assert asked_of(router, LONG, how) == "reads"


@both_ways
def test_what_the_router_refuses_stays_refused(live, router, known, how):
    from litellm.exceptions import BadRequestError

    use(router, live.ForecastStrategy(router, known))
    with pytest.raises(BadRequestError):
        asked_of(router, SHORT, how, model="another")


def test_requests_at_the_same_time_are_each_picked_for(live, router, known, provider):
    use(router, live.ForecastStrategy(router, known, explore=0.0, patience_ms=5000))

    async def ask_all():
        asks = [asking(router, SHORT if i % 2 else LONG) for i in range(12)]
        return [answer.model for answer in await asyncio.gather(*asks)]

    assert asyncio.run(ask_all()) == ["reads", "begins"] * 6


def test_the_timeout_of_a_request_is_its_deadline(live, router, known):
    """The one is sooner on average, the other one surely over in time."""
    for i in range(60):
        known.record("openai/begins", 8, 2000.0 if i % 10 == 0 else 20.0, completion_tokens=3)
    strategy = live.ForecastStrategy(router, known, by="median", chance=0.95, explore=0.0)
    healthy = asyncio.run(strategy._healthy("any", SHORT, None, False, {}))

    def picked(**request):
        return live.id_of(strategy._pick(healthy, SHORT, None, request))

    assert picked() == "begins"
    assert picked(timeout=0.6) == "reads"
    assert picked(timeout=0.6, stream=True) == "begins"
    assert picked(timeout=600) == "begins"
    assert picked(timeout=0.05) == "begins"  # none keeps it: the likeliest
    assert live.deadline_of({"timeout": True}) is None
    assert live.deadline_of({"timeout": object()}) is None


def test_the_caps_of_a_request_bound_the_completion(live):
    assert live.max_tokens({}) is None
    assert live.max_tokens({"max_tokens": 9, "max_completion_tokens": 5}) == 5
    assert live.max_tokens({"max_tokens": None}) is None


def test_deployments_of_one_model_share_its_history_or_have_their_own(live, provider, known):
    from litellm import Router

    deployments = [
        {
            "model_name": "any",
            "litellm_params": {"model": model, "api_base": provider.url, "api_key": "x"},
            "model_info": {"id": name},
        }
        for name, model in (("b1", "openai/begins"), ("b2", "openai/begins"), ("r", "openai/reads"))
    ]
    router = Router(model_list=deployments)
    strategy = live.ForecastStrategy(router, known, explore=0.0)
    healthy = asyncio.run(strategy._healthy("any", SHORT, None, False, {}))
    picks = {live.id_of(strategy._pick(healthy, SHORT, None, {})) for _ in range(30)}
    assert picks == {"b1", "b2"}
    for i in range(12):
        known.record("b1", 5 + i, 90.0)
        known.record("b2", 5 + i, 30.0)
    apart = live.ForecastStrategy(router, known, name=live.id_of, explore=0.0)
    assert {live.id_of(apart._pick(healthy, SHORT, None, {})) for _ in range(9)} == {"b2"}


def test_calls_that_a_callback_records_are_what_the_next_pick_rests_on(
    live, router, provider, ledger_path, monkeypatch
):
    """As the page on routing shows it."""
    import litellm

    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:

        def record(kwargs, _response, start, end):
            usage = kwargs["standard_logging_object"]
            calibrator.record(
                f"openai/{usage['model_id']}",
                usage["prompt_tokens"],
                (end - start).total_seconds() * 1000.0,
                completion_tokens=usage["completion_tokens"],
            )

        monkeypatch.setattr(litellm, "success_callback", [record])
        use(router, live.ForecastStrategy(router, calibrator, explore=0.3))
        for i in range(24):
            router.completion(model="any", messages=[SHORT, LONG][i % 2])
            deadline = time.monotonic() + 10
            while calibrator_count(calibrator) <= i and time.monotonic() < deadline:
                time.sleep(0.01)
        assert calibrator_count(calibrator) == 24
        assert calibrator.audit() == []


def calibrator_count(calibrator):
    return sum(one["sample_count"] for one in calibrator.all_stats())


@pytest.mark.parametrize(
    "wrong",
    [{"by": "quickest"}, {"chance": 1}, {"explore": 2}, {"patience_ms": -1}, {"patience_ms": "1"}],
)
def test_wrong_settings_are_refused_before_any_request(live, router, known, wrong):
    with pytest.raises(InvalidInputError):
        live.ForecastStrategy(router, known, **wrong)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_fork_picks_too(live, router, known):
    strategy = live.ForecastStrategy(router, known, explore=0.0, patience_ms=5000)
    use(router, strategy)
    assert asked_of(router, LONG, "sync") == "reads"
    healthy = asyncio.run(strategy._healthy("any", LONG, None, False, {}))
    child = os.fork()
    if child == 0:
        try:
            future = strategy._submit(healthy, LONG, None, {})
            os._exit(7 if live.id_of(future.result(5)) == "reads" else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_importing_the_library_does_not_import_litellm():
    code = "import calibration_ledger.calibrator, calibration_ledger.live, sys\n"
    done = ran(f"{code}print('litellm' in sys.modules)")
    assert done.stdout.strip() == "False"
