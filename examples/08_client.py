"""An existing Client: what its cluster does, how many workers pay, and as a lane.

The cluster may be any that a Client connects to. Its scheduler and workers need this
package. They may be processes that import this script, hence the last two lines.
"""

import json
from time import sleep

import dask.bag as db
from distributed import Client, LocalCluster, wait

from amorsize_dask import (
    AmorsizeScheduler,
    ClusterRecorder,
    advise_workers,
    cluster_record,
)


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

        # With this package's scheduler the cluster is one of the lanes. So little work
        # would be done here, if that were allowed.
        lengths = db.from_sequence([fetch(0)] * 60, npartitions=30).map(parse)
        with AmorsizeScheduler(client=client, lanes=("cluster",)) as scheduler:
            assert lengths.sum().compute(scheduler=scheduler) == 60 * 100
            print(scheduler.last_run)
            assert "cluster" in scheduler.last_run.lanes


if __name__ == "__main__":
    main()
