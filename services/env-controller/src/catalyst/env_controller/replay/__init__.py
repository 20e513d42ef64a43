"""Recorded decisions, decided again: where would this code, or another tree's, decide otherwise? No effects.

    stream DECISIONS ─▶ file ─▶ inputs alone ─▶ decided again, here or by another tree ─▶ beside the recorded result

file.py          the format of an exported history
again.py         deciding again, with the results taken away; elsewhere.py does it inside another tree
differences.py   two JSON values, compared for people
telling.py       the report
command.py       `python -m catalyst.env_controller replay` and `export`
"""
