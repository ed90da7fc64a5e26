"""The five data sets of the paper in the form their authors publish them, and photographs from a Debian package."""

from __future__ import annotations

from datasets.official.aircraft import AIRCRAFT
from datasets.official.cars import CARS
from datasets.official.cub import CUB
from datasets.official.food import FOOD
from datasets.official.indoor import INDOOR
from datasets.official.stamps import STAMPS

DATA_SETS = {
    "cub": CUB,
    "cars": CARS,
    "aircraft": AIRCRAFT,
    "indoor": INDOOR,
    "food": FOOD,
    "stamps": STAMPS,
}
