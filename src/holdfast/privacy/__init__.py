"""What is shown of a session, and what is kept from everybody.

views     canonical: all of it; reviewed: what is safe to log, forward and show
redact    values that are secret are taken out, however they are encoded
audience  those who see what a journal records
"""
