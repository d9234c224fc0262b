"""What happens to models, as it is told to whoever measures it. This room knows nothing of how that is done."""

from typing import Literal, Protocol

WhyUnloaded = Literal["idle", "room", "asked", "failed"]
"""Its keep-alive had ended; another model needed its room; somebody wanted it so (to unload, disable or remove it);
its process ended by itself, or was ended because it had hung."""


class Observer(Protocol):
    """Called on the event loop's thread, in passing: it returns at once, and raises nothing."""

    def loaded(self, model_id: str, seconds: float) -> None:
        """A load has succeeded, and has taken so long."""
        ...

    def load_failed(self, model_id: str) -> None:
        """A load, or the download before it, has failed."""
        ...

    def waited(self, model_id: str, seconds: float) -> None:
        """The first run of a request begins, and it has waited so long for that since the model was loaded."""
        ...

    def ran(self, model_id: str, seconds: float, items: int, tokens: int) -> None:
        """A run has been answered: how long it took, and of how many items and tokens (0 where it is not known)."""
        ...

    def answered(self, model_id: str, seconds: float) -> None:
        """A request has what it wanted of the model, and it took so long: the wait for it, and all its runs."""
        ...

    def unloaded(self, model_id: str, why: WhyUnloaded) -> None:
        """The process of a model has ended, other than with the service."""
        ...

    def host_died(self, model_id: str) -> None:
        """That process had not been asked to end."""
        ...

    def removed(self, model_id: str) -> None:
        """The model is no longer on offer, and its last process has ended."""
        ...


class Nobody:
    """Where nothing is measured."""

    def loaded(self, model_id: str, seconds: float) -> None:
        """Ignore it, as all that follows."""

    def load_failed(self, model_id: str) -> None: ...  # noqa: D102 - as the first

    def waited(self, model_id: str, seconds: float) -> None: ...  # noqa: D102

    def ran(self, model_id: str, seconds: float, items: int, tokens: int) -> None: ...  # noqa: D102

    def answered(self, model_id: str, seconds: float) -> None: ...  # noqa: D102

    def unloaded(self, model_id: str, why: WhyUnloaded) -> None: ...  # noqa: D102

    def host_died(self, model_id: str) -> None: ...  # noqa: D102

    def removed(self, model_id: str) -> None: ...  # noqa: D102
