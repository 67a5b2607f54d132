"""
Events: one line for every run that ended.

    outbox     the port to the ledger: events that wait, in the order in which the runs were counted
    lines      an event -> a line of JSON or logfmt
    sinks      standard output, standard error or a file, and the thread that writes to it
    delivery   from the outbox to the sink, and what is written out of the outbox
"""
