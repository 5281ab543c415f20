"""What texts are held against, in time linear in the text: for rules and for guards.

patterns      what a text must look like
destinations  where the arguments of a call point to
sieve         what a guard looks for, also while the text is still being written
widths        how many characters it takes at most to tell that an expression matches
"""
