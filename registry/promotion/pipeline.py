"""The stages of promoting and rolling back, in the order in which `promote` and `rollback` call them."""

import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.config import GateConfig, ProbeConfig, PromoteConfig, RollbackConfig
from registry.promotion import gate, model_check
from registry.promotion.candidates import Candidate, best_candidate, check_same_test, read_candidate
from registry.promotion.decision import Decision, draw_decision, write_decision
from registry.promotion.gate import Rule, Verdict
from registry.store import aliases
from registry.store.decision_log import Entry, Ledger, State
from registry.store.versions import Versions
from trainer.core import artifacts
from trainer.core.errors import RegistryError
from trainer.core.settings import flatten
from trainer.reporting import console
from trainer.tracking.connection import connect, describe, readable_errors
from trainer.tracking.run import Tracker, open_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Desk", "open_desk"]

# Facts of an entry of the ledger, beside the figures of the gate.
_TEST_DIGEST, _MODEL_RUN = "test_digest", "model_run"


@dataclass
class Desk:
    """Where decisions about one registered model are made: its registry, this command's run, the screen."""

    client: "MlflowClient"
    versions: Versions
    ledger: Ledger
    tracker: Tracker
    screen: console.Console
    settings: dict[str, Any]
    scratch: Path
    """Folder for what is fetched, gone afterwards."""
    dry_run: bool = False
    """Whether nothing may be changed in the registry."""
    remarks: list[str] = field(default_factory=list)
    """What a reader of the decision should know beside it."""
    _fetched: dict[str, Candidate] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Folder of this command's run."""
        return self.tracker.folder

    def choose(self, run_id: str, experiment: str) -> Candidate:
        """The run that is named, or the best of the experiment; its artifacts are fetched."""
        if not run_id:
            entries, state = self.ledger.read()
            champion = self._champion(state)
            named = self.client.get_experiment_by_name(experiment) if experiment else None
            own = self.client.get_run(self.tracker.run_id).info.experiment_id
            ranked = best_candidate(
                self.client,
                named.experiment_id if named else own,
                test_digest=champion.test_digest if champion else None,
                withdrawn=[str(entry.facts[_MODEL_RUN]) for entry in entries if entry.version in state.withdrawn],
            )
            run_id = ranked.run_id
            self.remarks += ranked.remarks
        return self._fetch(run_id)

    def is_champion(self, candidate: Candidate) -> bool:
        """Whether the candidate's model is on the throne as the ledger stands now."""
        _, state = self.ledger.read()
        return state.champion is not None and self.versions.run_of(state.champion) == candidate.run_id

    def compare(self, candidate: Candidate, tried: tuple[Rule, ...], config: GateConfig) -> Decision:
        """The decision about a candidate as the ledger stands now. tried: the rules of `try_model`."""
        entries, state = self.ledger.read()
        champion = self._champion(state)
        if champion is not None:
            check_same_test(candidate, champion)
        self._count_judged(entries, candidate)
        verdict = self._verdict(candidate, champion, tried, config)
        return Decision(
            kind="promoted" if verdict.accepted else "refused",
            candidate=candidate,
            champion=champion,
            state=state,
            rules=verdict.rules,
            figures=verdict.figures,
            difference=verdict.difference,
            why=verdict.why,
            becomes_challenger=not verdict.accepted and all(rule.passed for rule in tried),
        )

    def restore(self, version: int, reason: str, config: ProbeConfig) -> Decision:
        """The decision to make another version champion; 0 is the champion before the present one.

        Raises RegistryError when there is none, or when it does not load, or not score as its run did.
        """
        _, state = self.ledger.read()
        if state.champion is None:
            raise RegistryError(
                f"rollback must have a champion to replace, but got {self.versions.model!r} without one. Promote first."
            )
        target = version or self._before(state)
        if target == state.champion:
            raise RegistryError(f"rollback must go to another version, but got version={target}, which is champion.")
        fetched = self._fetch(self.versions.run_of(target))
        candidate = replace(fetched, model_uri=self.versions.uri(target))
        tried = self.try_model(candidate, config)
        broken = [f"{rule.name}: {rule.found}" for rule in tried if not rule.passed]
        if broken:
            raise RegistryError(
                f"version must load and score as its run did, but got version={target}, where {'; '.join(broken)}. "
                "Name another: version=."
            )
        champion, verdict = self._measured(candidate, state)
        return Decision(
            kind="restored",
            candidate=candidate,
            champion=champion,
            state=state,
            rules=tried,
            figures=verdict.figures if verdict else {},
            difference=verdict.difference if verdict else None,
            why=reason or f"version {state.champion} was rolled back",
        )

    def record(self, decision: Decision) -> None:
        """Write promotion.json and the figure into this command's run, with the figures as metrics."""
        self._write(decision, None)
        figure = draw_decision(self.folder, decision)
        if figure:
            self.tracker.log_artifact(figure)
        self.tracker.log_metrics({f"promotion/{name}": value for name, value in decision.figures.items()}, 0)
        if self.dry_run:
            self.tracker.set_tags({"promotion.dry_run": True, "promotion.would_be": decision.kind})

    def enter(self, decision: Decision) -> Entry | None:
        """The decision's entry in the ledger, with aliases and tags after it; None when another came first."""
        version = self.versions.register(decision.candidate)
        entry = self.ledger.append(
            Entry(
                kind=decision.kind,
                version=version,
                after=decision.state.head,
                replaced=decision.state.champion,
                why=decision.why,
                by=_who(),
                run_id=self.tracker.run_id,
                becomes_challenger=decision.becomes_challenger,
                facts={
                    **decision.figures,
                    _TEST_DIGEST: decision.candidate.test_digest,
                    _MODEL_RUN: decision.candidate.run_id,
                },
            )
        )
        if entry is not None:
            aliases.settle(self.client, self.versions.model, self.ledger)
            self._write(decision, entry)
            told = {"decision": entry.kind, "why": entry.why, "version": version, "entry": entry.number}
            self.tracker.set_tags({f"promotion.{name}": value for name, value in told.items()})
        return entry

    def show_unchanged(self, candidate: Candidate) -> None:
        """Say that the candidate is champion already."""
        for remark in self.remarks:
            self.screen.show_note(remark)
        self.screen.show_note(f"run {candidate.run_id} is champion already: nothing to decide")

    def show(self, decision: Decision, entry: Entry | None) -> None:
        """Say on the terminal what was decided and why."""
        for remark in self.remarks:
            self.screen.show_note(remark)
        self.screen.show_rules([(rule.passed, rule.name, rule.found, rule.needed) for rule in decision.rules])
        model, champion = self.versions.model, self.ledger.read()[1].champion
        subject = f"version {entry.version}" if entry else f"run {decision.candidate.run_id}"
        words = (
            f"{decision.kind}: {subject} ({decision.why})"
            if entry
            else f"dry run, would be {decision.kind}: {subject} ({decision.why})"
        )
        self.screen.show_note(words)
        stands = f"models:/{model}@{aliases.CHAMPION} is version {champion}" if champion else "there is no champion yet"
        self.screen.show_note(f"{stands}; details: {self.folder / artifacts.PROMOTION}")

    def _write(self, decision: Decision, entry: Entry | None) -> None:
        """Write promotion.json: a decision that has no entry in the ledger has not come into force."""
        circumstances = {
            "version": entry.version if entry else None,
            "ledger_entry": entry.number if entry else None,
            "dry_run": self.dry_run,
            "decided_by": _who(),
            "registered_model": self.versions.model,
            "remarks": self.remarks,
            "settings": self.settings,
        }
        write_decision(self.folder, decision, circumstances)
        self.tracker.log_artifact(artifacts.PROMOTION)

    def try_model(self, candidate: Candidate, config: ProbeConfig) -> tuple[Rule, ...]:
        """The rules on what the saved model does, in a process of its own."""
        path = candidate.folder / artifacts.predictions_file("test")
        return model_check.rules(model_check.probe(candidate.model_uri, path, candidate.temperature, config), config)

    def _verdict(
        self, candidate: Candidate, champion: Candidate | None, tried: tuple[Rule, ...], config: GateConfig
    ) -> Verdict:
        if champion is None:
            verdict = gate.open_gate(candidate.scored, config)
        else:
            verdict = gate.compare(candidate.scored, champion.scored, config)
        leak = candidate.dataset["left_in_train"]
        rows = sum(leak.values())
        clean = Rule("no leak", rows == 0, f"{rows} rows of dev and test stand in train", "none")
        return replace(verdict, rules=(*verdict.rules, clean, *tried))

    def _measured(self, candidate: Candidate, state: State) -> tuple[Candidate | None, Verdict | None]:
        """The champion to be replaced and how the candidate compares with it, for the record of a rollback."""
        try:
            champion = self._champion(state)
            if champion is None:
                return None, None
            check_same_test(candidate, champion)
        except Exception as error:  # a champion that is gone or damaged is a reason to roll back, not against it
            self.remarks.append(f"not compared with the champion: {describe(error)}")
            return None, None
        return champion, gate.compare(candidate.scored, champion.scored, GateConfig())

    def _champion(self, state: State) -> Candidate | None:
        if state.champion is None:
            return None
        return self._fetch(self.versions.run_of(state.champion))

    def _fetch(self, run_id: str) -> Candidate:
        """The run's results, which no longer change: fetched once, though decisions may be taken again."""
        if run_id not in self._fetched:
            self._fetched[run_id] = read_candidate(self.client, run_id, self.scratch / run_id)
        return self._fetched[run_id]

    def _before(self, state: State) -> int:
        if state.previous is None:
            raise RegistryError(
                f"rollback must have an earlier champion, but got {self.versions.model!r} whose ledger has none before "
                f"version {state.champion}. Name a version: version=."
            )
        return state.previous

    def _count_judged(self, entries: list[Entry], candidate: Candidate) -> None:
        same_test = [entry for entry in entries if entry.facts.get(_TEST_DIGEST) == candidate.test_digest]
        others = len({entry.facts[_MODEL_RUN] for entry in same_test} - {candidate.run_id})
        text = f"other models judged on these test rows before: {others}; the more, the less an interval says"
        if others and text not in self.remarks:
            self.remarks.append(text)


@contextmanager
def open_desk(config: PromoteConfig | RollbackConfig, experiment: str = "", *, dry_run: bool = False) -> Iterator[Desk]:
    """The desk of a registered model, with a run of its own. Aliases that are out of step are mended first, aloud."""
    store = connect()
    with readable_errors(store):
        if experiment and store.client.get_experiment_by_name(experiment) is None:
            raise RegistryError(
                f"experiment must exist on the tracking server, but got {experiment=}. Train there first."
            )
    screen = console.make()
    settings = flatten(config)
    tags = {artifacts.TAG_COMMAND: type(config).__name__.removesuffix("Config").lower()}
    with (
        open_run(Path(config.server.output), experiment=experiment or None, parameters=settings, tags=tags) as tracker,
        readable_errors(store),
        tempfile.TemporaryDirectory() as scratch,
    ):
        model = config.server.registered_model
        versions, ledger = Versions(store, model), Ledger(store.client, model)
        _adopt(versions, ledger, tracker.run_id, screen, dry_run=dry_run)
        for change in [] if dry_run else aliases.settle(store.client, model, ledger):
            screen.show_warning(
                f"{change}: mended, as the ledger has it. A command was cut off, or somebody moved it by hand; "
                "`rollback -P version=` moves the champion on the record."
            )
        yield Desk(store.client, versions, ledger, tracker, screen, settings, Path(scratch), dry_run)


def _adopt(versions: Versions, ledger: Ledger, run_id: str, screen: console.Console, *, dry_run: bool) -> None:
    """Begin the ledger with a champion that somebody made before there was one."""
    entries, state = ledger.read()
    version = None if entries else versions.champion_by_hand()
    if version is None:
        return
    entry = Entry(
        kind="adopted",
        version=version,
        after=state.head,
        replaced=None,
        why="it was champion before there was a ledger",
        by=_who(),
        run_id=run_id,
        facts={_MODEL_RUN: versions.run_of(version)},
    )
    if dry_run:
        ledger.assume(entry)
    else:
        ledger.append(entry)
    screen.show_note(f"version {version} stands as champion without an entry in the ledger: taken as it is")


def _who() -> str:
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
