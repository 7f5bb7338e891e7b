"""tiebeam: an integration framework for systems of Python agents."""

from tiebeam._core import Event, __version__
from tiebeam.bus import EventBus
from tiebeam.exceptions import *  # noqa: F403
