"""What is asked: the ten abilities, CMMLU, AGIEval."""
