"""An existing Client: what its cluster does, stage by stage, and how many workers pay.

The cluster may be any that a Client connects to. Its scheduler needs this package, and
workers may be processes that import this script, hence the last two lines.
"""

import json
from time import sleep

import dask.bag as db
from distributed import Client, LocalCluster, wait

from amorsize_dask import ClusterRecorder, advise_workers, cluster_record


def fetch(number):
    sleep(0.1)  # a server that takes its time
    return json.dumps({"number": number, "words": ["spam", "eggs"] * 50})


def parse(text):
    return len(json.loads(text)["words"])


def main():
    numbers = db.from_sequence(range(60), npartitions=30)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(ClusterRecorder())
        # As the user of a Client does it anyway: the work goes to the cluster.
        texts = numbers.map(fetch).persist()
        wait(client.futures_of(texts), return_when="FIRST_COMPLETED")
        advice = advise_workers(client, maximum=20, start_s=0.1)
        print(advice)
        assert advice.n_workers > 1
        assert advice.makespans[20] < advice.makespans[1] / 4

        assert texts.map(parse).sum().compute() == 60 * 100
        record = cluster_record(client)
        print(record)
        assert record.n_left == 0
        assert sum(stage.n_finished for stage in record.stages) > 60


if __name__ == "__main__":
    main()
