"""The paper's whole evaluation: a set of audits, the judgements across them, their numbers, verdicts and page."""
