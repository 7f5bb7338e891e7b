"""What follows a failure, and who decides."""

from __future__ import annotations

from typing import Any

from tiebeam._core import DeadLetter, Event
from tiebeam.conformance._case import case
from tiebeam.conformance._expect import expect
from tiebeam.conformance._site import Site
from tiebeam.exceptions import PermanentError

QUICK: Any = {"max_attempts": 3, "initial_delay": 0.001, "jitter": "none"}
ONCE: Any = {"max_attempts": 1}


@case()
async def tried_again(site: Site) -> None:
    """A failed attempt is made again, while other events are handled."""
    here, there = site.two()
    attempts: list[tuple[int, int]] = []

    @there.subscribe("flaky.event", group="g", retry=QUICK)
    async def handle(event: Event) -> None:
        attempts.append((event.payload["n"], event.retry_count + 1))
        if event.payload["n"] == 1 and event.retry_count + 1 < 3:
            raise ConnectionError("not yet")

    await site.ready()
    for n in range(3):
        await here.publish("flaky.event", {"n": n})
    await site.until(lambda: len(attempts) >= 5)
    await site.rest()
    expect(sorted(attempts) == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)])
    expect(len(there.dead_letters) == 0)


@case()
async def dead_letters(site: Site) -> None:
    """What fails for good is a dead letter after exactly the attempts it gets."""
    here, there = site.two()
    attempts: list[int] = []
    good: list[int] = []

    @there.subscribe("poison.event", group="g", name="poisoned", retry=QUICK)
    async def handle(event: Event) -> None:
        if event.payload["bad"]:
            attempts.append(event.retry_count + 1)
            raise RuntimeError("bad input")
        good.append(event.payload["n"])

    await site.ready()
    for n in range(5):
        await here.publish("poison.event", {"n": n, "bad": n == 2})
    (letter,) = await site.until(lambda: there.dead_letters.list())
    await site.until(lambda: len(good) >= 4)
    await site.rest()
    expect(attempts == [1, 2, 3])
    expect((letter.reason, letter.attempts) == ("attempts", 3))
    expect((letter.error_type, letter.message) == ("RuntimeError", "bad input"))
    expect(letter.traceback is not None and "bad input" in letter.traceback)
    expect(letter.event.payload == {"n": 2, "bad": True})


@case()
async def permanent(site: Site) -> None:
    """What says that it is permanent is not tried again."""
    here, there = site.two()
    attempts: list[int] = []

    @there.subscribe("never.event", group="g", retry=QUICK)
    async def handle(event: Event) -> None:
        attempts.append(event.retry_count + 1)
        raise PermanentError("never")

    await site.ready()
    await here.publish("never.event", {})
    (letter,) = await site.until(lambda: there.dead_letters.list())
    expect(attempts == [1])
    expect(letter.reason == "not_retryable")


@case()
async def fallback(site: Site) -> None:
    """A fallback that succeeds settles the event."""
    here, there = site.two()
    saved: list[int] = []

    @there.subscribe(
        "lost.event",
        group="g",
        retry=ONCE,
        fallback=lambda event: saved.append(event.payload["n"]),
    )
    async def handle(_event: Event) -> None:
        raise OSError("gone")

    await site.ready()
    await here.publish("lost.event", {"n": 1})
    await site.until(lambda: saved)
    await site.rest()
    expect(saved == [1])
    expect(len(there.dead_letters) == 0)


@case()
async def acknowledgement(site: Site) -> None:
    """The policies of acknowledgement mean the same everywhere."""
    here, there = site.two()
    attempts: dict[str, int] = {}
    for ack in ("ack_first", "ack", "reject_on_error", "nack_on_error"):

        def fail(_event: Event, ack: Any = ack) -> None:
            attempts[ack] = attempts.get(ack, 0) + 1
            raise RuntimeError(ack)

        options: Any = {"ack": ack}
        if ack == "nack_on_error":
            options["retry"] = QUICK
        there.subscribe("ack.event", fail, group=ack, name=ack, **options)
    await site.ready()
    await here.publish("ack.event", {})
    wanted = {"ack_first": 1, "ack": 1, "reject_on_error": 1, "nack_on_error": 3}
    await site.until(lambda: attempts == wanted and len(there.dead_letters) >= 2)
    await site.rest()
    letters = {letter.subscription: letter.reason for letter in there.dead_letters.list()}
    expect(letters == {"reject_on_error": "rejected", "nack_on_error": "attempts"}, letters)
    expect(attempts == wanted)


@case()
async def by_hand(site: Site) -> None:
    """Where a handler decides by itself, an event is settled when it says so."""
    here, there = site.two()
    seen: list[tuple[int, int]] = []

    @there.subscribe("manual.event", group="g", ack="manual", retry=QUICK)
    async def handle(event: Event) -> None:
        seen.append((event.payload["n"], event.retry_count + 1))
        match event.payload["n"], event.retry_count + 1:
            case 1, 1:
                event.nack()
            case 2, _:
                event.reject("not for us")
            case _:
                event.ack()

    await site.ready()
    for n in range(4):
        await here.publish("manual.event", {"n": n})
    await site.until(lambda: len(seen) >= 5 and len(there.dead_letters) >= 1)
    await site.rest()
    expect(sorted(seen) == [(0, 1), (1, 1), (1, 2), (2, 1), (3, 1)])
    (letter,) = there.dead_letters.list()
    expect((letter.reason, letter.message) == ("rejected", "not for us"))


@case()
async def replayed(site: Site) -> None:
    """A dead letter is handled again when somebody says so."""
    here, there = site.two()
    mended = False
    seen: list[int] = []

    @there.subscribe("mend.event", group="g", retry=ONCE)
    async def handle(event: Event) -> None:
        if not mended:
            raise RuntimeError("broken")
        seen.append(event.payload["n"])

    await site.ready()
    await here.publish("mend.event", {"n": 7})
    await site.until(lambda: len(there.dead_letters))
    mended = True
    expect(there.dead_letters.replay() == 1)
    await site.until(lambda: seen)
    expect(seen == [7])
    expect(len(there.dead_letters) == 0)
    await site.rest()

    async def nothing_is_kept() -> bool:
        return not await here.dead_letters.everywhere.list()

    await site.until_told(nothing_is_kept)


@case()
async def dead_letters_everywhere(site: Site) -> None:
    """Any process lists the dead letters of all, and has one handled again by its group alone."""
    here, there = site.two()
    mended = False
    failing: list[int] = []
    well: list[int] = []
    copies: list[int] = []

    @there.subscribe("spoilt.event", group="failing", name="failing", retry=ONCE)
    async def fail(event: Event) -> None:
        failing.append(event.payload["n"])
        if not mended:
            raise RuntimeError("broken")

    @there.subscribe("spoilt.event", group="well")
    async def handle(event: Event) -> None:
        well.append(event.payload["n"])

    @there.subscribe("spoilt.event")
    async def copy(event: Event) -> None:
        copies.append(event.payload["n"])

    await site.ready()
    for n in (1, 2, 3):
        await here.publish("spoilt.event", {"n": n}, key="k")
    kept = here.dead_letters.everywhere

    async def three() -> list[DeadLetter]:
        found = await kept.list(subscription="failing", event_type="spoilt.event")
        return found if len(found) == 3 else []

    letters = await site.until_told(three)
    expect([letter.event.payload["n"] for letter in letters] == [1, 2, 3])
    first = letters[0]
    expect((first.subscription, first.reason, first.attempts) == ("failing", "attempts", 1))
    expect((first.error_type, first.message) == ("RuntimeError", "broken"))
    expect("broken" in (first.traceback or ""))
    expect(len(await kept.list(limit=2)) == 2)
    expect(await kept.list(subscription="well") == [])

    mended = True
    expect(await kept.replay(letters[1].name) == 1)
    await site.until(lambda: len(failing) >= 4)
    expect(await kept.purge([letters[0].name]) == 1)
    expect([letter.name for letter in await kept.list()] == [letters[2].name])
    expect(await kept.replay(event_type="spoilt.event") == 1)
    await site.until(lambda: len(failing) >= 5)
    await site.rest()
    expect(failing == [1, 2, 3, 2, 3])
    expect((sorted(well), sorted(copies)) == ([1, 2, 3], [1, 2, 3]))
    expect(await kept.list() == [])
    expect(await kept.replay() == 0)


@case()
async def dead_letters_of_commands(site: Site) -> None:
    """A command that was given up is handled again by whoever handles it then."""
    here, there = site.two()
    mended = False
    seen: list[int] = []

    @there.handle("spoilt.command", retry=ONCE)
    async def handle(event: Event) -> None:
        if not mended:
            raise RuntimeError("broken")
        seen.append(event.payload["n"])

    await site.ready()
    await here.send("spoilt.command", {"n": 7})
    kept = here.dead_letters.everywhere
    (letter,) = await site.until_told(kept.list)
    expect(letter.event.event_type == "spoilt.command")
    mended = True
    expect(await kept.replay() == 1)
    await site.until(lambda: seen)
    await site.rest()
    expect((seen, await kept.list()) == ([7], []))
