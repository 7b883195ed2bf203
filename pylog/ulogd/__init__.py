"""ulogd2, replaced: its configuration, its keys and the bytes of its outputs.

`conffile` reads ulogd.conf by ulogd's rules, `plugins` is the table of plugins with their options,
`keys` the table of keys, a view on the record. `build` makes stacks of instances, `daemon` runs
records through them. Facts are measured on ulogd 2.0.8 and 2.0.9.
"""
