"""Small torch networks of many families, and every export of one. Not here: explanations.

Each is written as networks of its family are, with the spellings that exporters take apart in different ways.
"""

from tests.analyzer.methods.families import maxima as maxima
from tests.analyzer.methods.families import pictures as pictures
from tests.analyzer.methods.families import sequences as sequences
from tests.analyzer.methods.families import tables as tables
from tests.analyzer.methods.families.declared import FAMILIES as FAMILIES
from tests.analyzer.methods.families.exports import EXPORTS as EXPORTS
from tests.analyzer.methods.families.exports import exported as exported
from tests.analyzer.methods.families.exports import network as network
