"""Pipelines: `pylog run` reads sources and writes stacks, each of filters and an output.

The process of the command receives what the kernel gives and passes it on as it is: to the journal,
from which every stack reads at its own pace, or to a bounded queue for each stack. A stack is a
process of its own, which decodes, filters and writes, so no stack can stop, slow or starve another
one, or the receiving.

    configuration -> receiver -> blocks -> journal | queues -> feed -> stages -> output -> position

Blocks are those of pcapng (`blocks`), in the journal and in queues alike.
"""
