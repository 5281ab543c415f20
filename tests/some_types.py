"""Types of every kind that a tool's parameter may have."""

import dataclasses
import enum
from typing import NamedTuple, NewType, Optional, Required, TypedDict

import msgspec
import pydantic


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Place(msgspec.Struct):
    """Somewhere."""

    city: str
    zip: str = "-"


@dataclasses.dataclass
class Person:
    name: str
    nicknames: list[str] = dataclasses.field(default_factory=list)


class Options(TypedDict, total=False):
    depth: int
    mode: Required[str]


class Pair(NamedTuple):
    left: int
    right: str


class Trip(msgspec.Struct):
    stops: list[Place]
    color: Color


class Node(msgspec.Struct):
    value: int
    color: Color
    next: Optional["Node"] = None


class Egg(msgspec.Struct):
    hen: Optional["Hen"] = None
    place: Place | None = None


class Hen(msgspec.Struct):
    egg: Egg | None = None


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square"):
    side: float


class Order(pydantic.BaseModel):
    item: str
    count: int = pydantic.Field(ge=1, default=1)


class Tree(pydantic.BaseModel):
    label: str
    leaves: list["Tree"] = []


class Forest(pydantic.BaseModel):
    first: Tree
    order: Order | None = None


UserId = NewType("UserId", int)
