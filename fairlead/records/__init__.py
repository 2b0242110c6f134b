"""Data rows: six kinds, read from anywhere, checked, with errors that name file, line, field and fix.

records = read("pairs.jsonl")                       # or harbor:SET, .parquet, .csv, org/name, a datasets folder
records = read("hh.jsonl.gz?bad_rows=drop", format="hh")
records.kind, records[0].prompt, records.fingerprint
"""

from fairlead.messages import ROLES, Message, Prompt
from fairlead.records.check import Problem
from fairlead.records.formats import FORMATS
from fairlead.records.reader import Records, read
from fairlead.records.schema import (
    Conversation,
    Feedback,
    Preference,
    PromptOnly,
    Ranking,
    Record,
    Text,
    texts,
    to_row,
)
from fairlead.records.writer import write

__all__ = [
    "FORMATS",
    "ROLES",
    "Conversation",
    "Feedback",
    "Message",
    "Preference",
    "Problem",
    "Prompt",
    "PromptOnly",
    "Ranking",
    "Record",
    "Records",
    "Text",
    "read",
    "texts",
    "to_row",
    "write",
]
