"""
Events: one line for every run that ended.

    outbox     what a ledger offers: events that wait, in the order in which the runs were counted
    lines      an event -> a line of JSON or logfmt
    sinks      standard output, standard error or a file: where lines are written to
    writer     the thread that writes
    delivery   from the outbox to the writer, and what is written out of the outbox
"""
