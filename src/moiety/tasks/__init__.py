"""What is learned: objectives and losses."""

from moiety.tasks.classes import Classes
from moiety.tasks.labels import Labels
from moiety.tasks.numbers import Numbers
from moiety.tasks.own import OwnLoss
from moiety.tasks.tokens import Tokens

__all__ = ["Classes", "Labels", "Numbers", "OwnLoss", "Tokens"]
