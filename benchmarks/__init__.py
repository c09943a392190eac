"""Speed, shown: this program and its peers on the same letters, side by side in one run.

    workload    the letters: a campaign folder for us, the same content for the peers
    receiver    Postfix's smtp-sink, fresh for each run, and a proxy that makes the way there long
    senders     who is measured, and what each does not do; `ours` and `peers/` are the programs that are started
    measured    one child process: its words, its time, its CPU, its memory
    race        rounds in which all senders take turns, and what the figures of all rounds come to
    growth      ours alone, on lists of 10³ to 10⁶ rows; starting up; after a crash
    tables      figures as text, JSON and Markdown; chart: as SVG

Only ratios taken in one run count: the machine, its disk and whoever else works on it move the absolute figures.
The program imports nothing from here; of the program only its outside is used: a campaign folder, `Desk`, `outlook`,
`send`, and the command line. All traffic stays on 127.0.0.1.
"""
