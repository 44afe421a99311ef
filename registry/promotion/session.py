"""The steps of promote and rollback, in the order in which the two commands call them."""

import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.config import CheckConfig, GateConfig, PromoteConfig, RollbackConfig
from registry.promotion import gate, model_check
from registry.promotion.candidates import Candidate, check_same_test, read_candidate
from registry.promotion.gate import Rule, SeedPredictions, Verdict
from registry.promotion.proposal import Proposal, draw_proposal, write_proposal
from registry.promotion.seeds import find_seed_runs
from registry.promotion.selection import select_run
from registry.store.decision_log import CHAMPION, Decision, RegistryState
from registry.store.model_registry import MODEL_RUN, ModelRegistry
from trainer.core import artifacts
from trainer.core.errors import RegistryError, shorten
from trainer.core.scratch import scratch_folder
from trainer.core.settings import flatten
from trainer.reporting import console
from trainer.reporting.optional import attempt
from trainer.tracking.connection import connect, describe_error, readable_errors
from trainer.tracking.refusals import check_registry_right
from trainer.tracking.run import Tracker, open_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["PromotionSession", "open_session"]

_MAX_CAUSE = 130
_TEST_DIGEST = "test_digest"
"""Fact of a decision."""


@dataclass
class PromotionSession:
    """Decides about one registered model; a command opens one session."""

    client: "MlflowClient"
    registry: ModelRegistry
    tracker: Tracker
    screen: console.Console
    settings: dict[str, Any]
    scratch: Path
    """Folder for downloads, removed afterwards."""
    remarks: list[str] = field(default_factory=list)
    """Facts that a reader of the decision needs too."""
    _candidates: dict[str, Candidate] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Folder of this command's run."""
        return self.tracker.folder

    def begin(self) -> None:
        """Check the registered model, then reconcile. Raises RegistryError before anything is written."""
        self.registry.check_name()
        champion = self.registry.present_champion()
        if champion is not None and not self.registry.log.read()[0]:  # of another project, which keeps its own
            self._champion(RegistryState(champions=(champion,)))
        self.reconcile()  # a proposal begins from aliases that agree with the log

    def choose(self, run_id: str, experiment: str) -> Candidate:
        """Return the run with this id, or the best of the experiment, with its artifacts."""
        if run_id:
            return self._fetch(run_id)
        decisions, state = self.registry.log.read()
        named = self.client.get_experiment_by_name(experiment) if experiment else None
        own = self.client.get_run(self.tracker.run_id).info.experiment_id
        rolled_back = [one.facts.get(MODEL_RUN, "") for one in decisions if one.version in state.rolled_back]
        selection = select_run(
            self.client,
            named.experiment_id if named else own,
            champion=self._champion(state),
            rolled_back=rolled_back,
        )
        self.remarks += selection.remarks
        return self._fetch(selection.run_id)

    def is_champion(self, candidate: Candidate) -> bool:
        """Return True when the candidate's model is champion at present."""
        champion, versions = self.registry.state.champion, self.registry.versions
        return champion in versions.numbers() and versions.find_run(champion) == candidate.run_id

    def check_model(self, candidate: Candidate, config: CheckConfig) -> tuple[Rule, ...]:
        """Return the rules on the saved model, which is tried in a process without secrets."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:  # the copy of the weights is not needed longer
            check = model_check.check_model(candidate.model_uri, candidate.judged, config, Path(folder))
        return gate.check_rules(check, config)

    def compare(self, candidate: Candidate, checked: tuple[Rule, ...], config: GateConfig) -> Proposal:
        """Propose a decision about a candidate. checked: the rules of `check_model`."""
        decisions, state = self.registry.log.read()
        champion = self._champion(state)
        if champion is not None:
            check_same_test(candidate, champion)
        seeds = self._seeds(candidate, champion) if config.min_seeds > 1 else None
        if champion is None:
            verdict = gate.judge_first(candidate.test_scores, config, seeds)
        else:
            verdict = gate.compare(candidate.test_scores, champion.test_scores, config, seeds)
        verdict = replace(verdict, rules=(*verdict.rules, gate.leak_rule(candidate.dataset["left_in_train"]), *checked))
        self._count_judged(decisions, candidate)
        return Proposal(
            kind="promoted" if verdict.accepted else "refused",
            candidate=candidate,
            champion=champion,
            state=state,
            rules=verdict.rules,
            figures=verdict.figures,
            difference=verdict.difference,
            why=verdict.why,
            # The alias must not lead to a model that failed its check.
            becomes_challenger=not verdict.accepted and all(rule.passed for rule in checked),
        )

    def rollback_to(self, version: int, reason: str, config: CheckConfig) -> Proposal:
        """Propose to make a version champion; 0 is the champion before the present one.

        Raises RegistryError when there is none, or when its model fails a rule of the model check.
        """
        state = self.registry.state
        if not state.champions:
            raise RegistryError(f"{self.registry.model} has no champion to roll back. Promote first.")
        target = version or self._previous(state)
        if target == state.champion:
            raise RegistryError(f"`version` must differ from the champion, got {target}, which is champion.")
        candidate = replace(  # the registered model: the run may have a newer one
            self._fetch(self.registry.versions.run_of(target)), model_uri=self.registry.versions.uri(target)
        )
        checked = self.check_model(candidate, config)
        failed = [f"{rule.name}: {rule.value}, required {rule.required}" for rule in checked if not rule.passed]
        if failed:
            raise RegistryError(
                f"Version {target} fails the model check ({'; '.join(failed)}). Name another version: version=."
            )
        champion, verdict = self._compare_for_record(candidate, state)
        return Proposal(
            kind="restored",
            candidate=candidate,
            champion=champion,
            state=state,
            rules=checked,
            figures=verdict.figures if verdict else {},
            difference=verdict.difference if verdict else None,
            why=reason or f"version {state.champion} was rolled back",
            version=target,
        )

    def log_decision(self, proposal: Proposal) -> None:
        """Write promotion.json, the figure and the scores into this command's run."""
        self._write(proposal, None)
        figure = attempt("the figure of the decision", lambda: draw_proposal(self.folder, proposal))
        if figure:
            self.tracker.log_artifact(figure)
        self.tracker.log_metrics({f"promotion/{name}": value for name, value in proposal.figures.items()}, 0)
        if self.registry.dry_run:
            self.tracker.set_tags({"promotion.dry_run": True, "promotion.would_be": proposal.kind})
            self._describe(f"Dry run, would be {proposal.kind}: run {_linked(proposal.candidate)}", proposal.why)

    def commit(self, proposal: Proposal) -> Decision | None:
        """Append the decision to the log and write aliases and tags; return None when another decision came first."""
        if self.reconcile():  # an alias that somebody moved is a decision that came first
            return None
        candidate = proposal.candidate
        decision = self.registry.commit(
            Decision(
                kind=proposal.kind,
                # Before the append: after a kill in between, the next try finds this version and uses it.
                version=proposal.version or self._register(candidate),
                parent=proposal.state.head,
                replaced=proposal.state.champion,
                why=proposal.why,
                by=_user(),
                run_id=self.tracker.run_id,
                becomes_challenger=proposal.becomes_challenger,
                facts={**proposal.figures, _TEST_DIGEST: candidate.test_digest, MODEL_RUN: candidate.run_id},
            )
        )
        if decision is not None:
            self._write(proposal, decision)  # again, with the number from the log
            tags = {
                "decision": decision.kind,
                "why": decision.why,
                "version": decision.version,
                "entry": decision.number,
            }
            self.tracker.set_tags({f"promotion.{name}": value for name, value in tags.items()})
            what = f"Version {decision.version} of {self.registry.model} {decision.kind}, model of run"
            self._describe(f"{what} {_linked(candidate)}", decision.why)
        return decision

    def _describe(self, what: str, why: str) -> None:
        note = f"{what}: {why}."
        if (self.folder / artifacts.PROMOTION).is_file():
            note += f"\n\nRules and scores: [promotion.json]({self.tracker.page}/artifacts/{artifacts.PROMOTION})"
        self.tracker.set_tags({artifacts.TAG_NOTE: note})

    def reconcile(self) -> bool:
        """Complete an interrupted decision, record aliases moved by hand, and print both; return whether any moved."""
        completed = self.registry.complete_interrupted()
        moves = self.registry.record_external_moves(self.tracker.run_id)
        for text in (*completed, *moves):
            self.screen.show_warning(f"{text}.")
        return bool(moves)

    def show_unchanged(self, candidate: Candidate) -> None:
        """Print that the candidate is champion already."""
        for remark in self.remarks:
            self.screen.show_note(remark)
        self.screen.show_note(f"run {candidate.run_id} is champion already: nothing to decide")
        self._describe(f"Run {_linked(candidate)}", "it is champion already, so there was nothing to decide")

    def show(self, proposal: Proposal, decision: Decision | None) -> None:
        """Print the decision and its reasons."""
        for remark in self.remarks:
            self.screen.show_note(remark)
        self.screen.show_rules([(rule.passed, rule.name, rule.value, rule.required) for rule in proposal.rules])
        if decision:
            self.screen.show_note(f"{proposal.kind}: version {decision.version} ({proposal.why})")
        else:
            self.screen.show_note(
                f"dry run, would be {proposal.kind}: run {proposal.candidate.run_id} ({proposal.why})"
            )
        champion = self.registry.state.champion
        now = f"models:/{self.registry.model}@{CHAMPION} is version {champion}" if champion else "there is no champion"
        self.screen.show_note(f"{now}; details: {self.folder / artifacts.PROMOTION}")

    def _write(self, proposal: Proposal, decision: Decision | None) -> None:
        """Write promotion.json; without a decision in the log the proposal has not come into force."""
        context = {
            "version": decision.version if decision else None,
            "decision_number": decision.number if decision else None,
            "dry_run": self.registry.dry_run,
            "decided_by": _user(),
            "registered_model": self.registry.model,
            "remarks": self.remarks,
            "settings": self.settings,
        }
        write_proposal(self.folder, proposal, context)
        self.tracker.log_artifact(artifacts.PROMOTION)

    def _compare_for_record(
        self, candidate: Candidate, state: RegistryState
    ) -> tuple[Candidate | None, Verdict | None]:
        """Return the champion to be replaced and how the candidate compares with it."""
        try:
            champion = self._champion(state)
            if champion is None:
                return None, None
            check_same_test(candidate, champion)
        except Exception as error:  # a champion that is gone or damaged is a reason to roll back, not against it
            self.remarks.append(f"not compared with the champion: {describe_error(error)}")
            return None, None
        return champion, gate.compare(candidate.test_scores, champion.test_scores, GateConfig())

    def _champion(self, state: RegistryState) -> Candidate | None:
        """Return the champion; None when there is none, or when its version was deleted.

        Raises RegistryError, with the ways to continue, when it cannot be compared with.
        """
        version, model = state.champion, self.registry.model
        if version is None:
            return None
        if version not in self.registry.versions.numbers():
            text = f"champion version {version} was deleted: judged as a first champion"
            self.remarks += [text] if text not in self.remarks else []
            return None
        try:
            return self._fetch(self.registry.versions.run_of(version))
        except RegistryError as error:
            cause = shorten(error, _MAX_CAUSE)
            raise RegistryError(
                f"Champion version {version} of {model} cannot be compared with: {cause} To continue, roll back, "
                "remove its alias `champion` in the MLflow UI, or give another `registered_model`."
            ) from error

    def _seeds(self, candidate: Candidate, champion: Candidate | None) -> SeedPredictions:
        """Return what candidate and champion predict on test with every seed that was trained."""
        found = [find_seed_runs(self.client, one, self.scratch) for one in (candidate, champion) if one is not None]
        remarks = [remark for one in found for remark in one.remarks]
        self.remarks += [remark for remark in dict.fromkeys(remarks) if remark not in self.remarks]
        return SeedPredictions(*(one.predictions for one in found))

    def _register(self, candidate: Candidate) -> int:
        """Return the version with the model that was checked: a run may have got another one since."""
        return self.registry.versions.register(candidate.run_id, candidate.model_uri, candidate.label_names)

    def _fetch(self, run_id: str) -> Candidate:
        """Return the artifacts of a run; downloaded once, because they no longer change."""
        if run_id not in self._candidates:
            self._candidates[run_id] = read_candidate(self.client, run_id, self.scratch / run_id)
        return self._candidates[run_id]

    def _previous(self, state: RegistryState) -> int:
        existing = set(self.registry.versions.numbers())
        earlier = [version for version in state.champions[:-1] if version is not None and version in existing]
        if not earlier:
            raise RegistryError(
                f"{self.registry.model} has no champion before version {state.champion}. Name a version: version=."
            )
        return earlier[-1]

    def _count_judged(self, decisions: list[Decision], candidate: Candidate) -> None:
        same_test = [decision for decision in decisions if decision.facts.get(_TEST_DIGEST) == candidate.test_digest]
        others = len({decision.facts[MODEL_RUN] for decision in same_test} - {candidate.run_id})
        text = f"other models judged on these test examples before: {others}; each makes an interval less reliable"
        if others and text not in self.remarks:
            self.remarks.append(text)


@contextmanager
def open_session(
    config: PromoteConfig | RollbackConfig, experiment: str = "", *, dry_run: bool = False
) -> Iterator[PromotionSession]:
    """Open a session with its run, after reconciling the decision log with the aliases."""
    store = connect()
    with readable_errors(store):
        if experiment and store.client.get_experiment_by_name(experiment) is None:  # `open_run` would create it
            raise RegistryError(f"`experiment` must exist on the tracking server, got {experiment}. Train there first.")
    screen = console.make()
    settings = flatten(config)
    command, model = type(config).__name__.removesuffix("Config").lower(), config.server.registered_model
    tags = {artifacts.TAG_COMMAND: command}
    with (
        open_run(
            Path(config.server.output),
            name=f"{command} {model}",
            experiment=experiment or None,
            parameters=settings,
            tags=tags,
        ) as tracker,
        readable_errors(store),
        scratch_folder() as scratch,
    ):
        if not dry_run:
            check_registry_right(store, model)  # now, not after the model was judged
        registry = ModelRegistry(store, model, dry_run=dry_run)
        session = PromotionSession(store.client, registry, tracker, screen, settings, scratch)
        session.begin()
        yield session


def _linked(candidate: Candidate) -> str:
    return f"[{candidate.run_name}](#/runs/{candidate.run_id})"


def _user() -> str:
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()  # the account on the server, if any
    except (KeyError, OSError):  # a container may run as a user without a name; OSError from Python 3.13 on
        return f"uid {os.getuid()}"
