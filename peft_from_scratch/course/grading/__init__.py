"""Grading submitted notebooks: what is taken from them, where it runs, how it is judged, what is reported.

batch     the instructor's side: a pool of workers, records that survive being stopped, the reports
sandbox   the command that starts a worker: bubblewrap, else without a network, else said loudly
worker    rehearses the pristine lesson once, then forks one child for each answer
judge     the child: runs the answer, puts back what it replaced, grades it, then the canaries
police, withheld, guards, seal    what an answer is refused, what is taken away, what is looked at: after, and meanwhile
"""
