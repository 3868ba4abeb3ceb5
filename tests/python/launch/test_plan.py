"""Plans, address files and ports: values in, values or typed errors out."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import pytest

from rudder import ucx
from rudder.agent.worker.settings import Room
from rudder.errors import ConfigError, FormatError, LaunchError
from rudder.launch import features as features_module
from rudder.launch import ports
from rudder.launch.events import Broken, Exited, Line, from_json, to_json
from rudder.launch.features import FeatureServers
from rudder.launch.keepers import Keepers, planned
from rudder.launch.plan import (
    Host,
    Job,
    ip_config_text,
    parse_ip_config,
    plan_processes,
    process_from_json,
    process_to_json,
)

HOSTS = [Host(0, "10.0.0.1", 30050), Host(1, "10.0.0.2", 40000)]


def _plan(features=None, **settings):
    job = Job(script="s.py", args=["--p", "{part_config}"], part_config="/p.json", **settings)
    return plan_processes(
        job,
        HOSTS,
        master=("10.0.0.1", 29500),
        shared_memory=False,
        features=features,
        keepers=planned(job),
    )


def test_servers_come_first_and_ranks_count_through_the_hosts():
    planned = _plan(trainers=2, servers=2)
    assert [p.role for p in planned] == ["server"] * 4 + ["trainer"] * 4
    assert [p.rank for p in planned] == [0, 1, 2, 3] * 2
    assert [p.name for p in planned][3] == "host1 server1"
    assert planned[3].env["DGL_SERVER_ID"] == "3"
    trainer = planned[-1].env
    assert (trainer["RANK"], trainer["LOCAL_RANK"], trainer["GROUP_RANK"]) == ("3", "1", "1")
    assert "DGL_SERVER_ID" not in trainer
    assert trainer["RUDDER_LOCAL_HOSTS"] == "1"
    assert planned[0].argv == ["s.py", "--p", "/p.json"]


def test_settings_reach_the_right_processes():
    planned = _plan(env={"A": "1"}, trainer_env={"B": "2"}, record="/r", out="/o")
    server, trainer = planned[0].env, planned[-1].env
    assert server["A"] == trainer["A"] == "1"
    assert trainer["B"] == "2"
    assert "B" not in server
    assert trainer["RUDDER_RECORD"] == "/r"
    assert "RUDDER_RECORD" not in server
    assert trainer["RUDDER_OUT"] == "/o"


def test_a_feature_server_per_host_and_a_secret_that_never_shows():
    features = FeatureServers([30051, 40001])
    planned = _plan(features=features, feature_threads=3)
    assert [p.role for p in planned] == ["server", "feature server"] * 2 + ["trainer"] * 2
    for process in planned:
        trusted = process.role != "server"
        assert process.env.get("RUDDER_SECRET") == (features.secret if trusted else None)
        assert not any(features.secret in word for word in process.argv)
        assert features.secret not in f"{process} {features}"
    assert len(features.secret) == 64
    assert FeatureServers([1]).secret != features.secret
    assert json.loads(planned[3].argv[1]) == {
        "partition": 1,
        "address": "10.0.0.2",
        "port": 40001,
        "threads": 3,
    }
    assert planned[3].env["RUDDER_HOST"] == "1"
    assert "DGL_ROLE" not in planned[3].env
    assert planned[-1].env["RUDDER_FEATURE_SERVERS"] == "10.0.0.1:30051,10.0.0.2:40001"
    assert "RUDDER_FEATURE_SERVERS" not in _plan()[-1].env


def test_where_feature_servers_run(monkeypatch):
    job = Job(script="s.py", args=[], part_config="/p.json", servers=2)
    none = Job(script="s.py", args=[], part_config="/p.json", feature_servers=False)
    monkeypatch.setattr(ucx, "why_not", lambda: None)
    assert features_module.planned_here(job, HOSTS, lambda host: host.port + 7).ports == [30057, 40007]
    assert features_module.planned_here(none, HOSTS, lambda host: 1) is None
    assert features_module.planned_elsewhere(job, HOSTS).ports == [30052, 40002]
    assert features_module.planned_elsewhere(none, HOSTS) is None
    monkeypatch.setattr(ucx, "why_not", lambda: "ucx is absent")
    assert features_module.planned_here(job, HOSTS, lambda host: 1) is None


def test_processes_and_events_survive_the_wire():
    for process in _plan():
        assert process_from_json(process_to_json(process)) == process
    for event in (Line("host0 trainer0", "stdout", "x"), Exited("a", -9, 1.0, 0.5, "t"), Broken(1, "gone")):
        assert from_json(to_json(event)) == event


def test_address_file_round_trip(tmp_path):
    path = tmp_path / "ip.txt"
    path.write_text("# machines\n10.0.0.1\n\n10.0.0.2 40000\n")
    hosts = parse_ip_config(str(path))
    assert [(h.number, h.address, h.port) for h in hosts] == [(0, "10.0.0.1", 30050), (1, "10.0.0.2", 40000)]
    assert ip_config_text(hosts) == "10.0.0.1 30050\n10.0.0.2 40000\n"


@pytest.mark.parametrize("text", ["10.0.0.1 a b\n", "10.0.0.1 port\n", "\n# none\n"])
def test_bad_address_files(tmp_path, text):
    path = tmp_path / "ip.txt"
    path.write_text(text)
    with pytest.raises(FormatError, match=str(path)):
        parse_ip_config(str(path))


def test_partition_files_are_checked(tmp_path):
    script = tmp_path / "s.py"
    script.touch()
    parts = tmp_path / "p.json"
    job = Job(str(script), [], str(parts))
    with pytest.raises(ConfigError, match="no partition file"):
        job.check(2)
    for text in ("{", "[]", "{}", '{"num_parts": "x"}'):
        parts.write_text(text)
        with pytest.raises(FormatError):
            job.check(2)
    parts.write_text('{"num_parts": 2}')
    job.check(2)
    with pytest.raises(ConfigError, match="2 partitions for 4 hosts"):
        job.check(4)


def test_ports():
    port = ports.free_port("127.0.0.1", 3)
    ports.check_ports([("127.0.0.1", port + i) for i in range(3)])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        with pytest.raises(LaunchError, match=f"port {port + 1} at 127.0.0.1"):
            ports.check_ports([("127.0.0.1", port), ("127.0.0.1", port + 1)])
    with pytest.raises(LaunchError, match="assign requested address"):
        ports.check_ports([("192.0.2.1", 30050)])  # an address of no machine


def test_ports_of_others_of_the_job_are_not_chosen():
    port = ports.free_port("127.0.0.1", 2)
    with pytest.raises(LaunchError, match=f"port {port} at 127.0.0.1 cannot be had: the job wants it twice"):
        ports.check_ports([("127.0.0.1", port), ("127.0.0.1", port + 1), ("127.0.0.1", port)])
    taken = [number for number in range(20000, 32000) if number not in (port, port + 1)]
    assert ports.free_port("127.0.0.1", 2, but=taken) == port
    with pytest.raises(LaunchError, match="no 2 free ports"):
        ports.free_port("127.0.0.1", 2, but=[*taken, port])


def test_trainers_and_servers_know_the_run():
    for process in _plan(out="/o", run="r1"):
        assert process.env["RUDDER_RUN"] == "r1"


def test_an_agent_per_host_which_its_trainers_find():
    processes = _plan(controller="agent", agent_model="/m.gguf", agent_threads=2, trainers=2, env={"A": "1"})
    agents = [process for process in processes if process.role == "agent"]
    assert [process.name for process in agents] == ["host0 agent", "host1 agent"]
    for agent in agents:
        script, settings = agent.argv
        address = f"{{job_folder}}/agent{agent.host}.sock"
        assert script.endswith("keeper.py")
        assert json.loads(settings)["address"] == address
        assert json.loads(settings)["model"] == "/m.gguf"
        assert json.loads(settings)["room"] == {"context": 4096, "threads": 2}
        assert agent.env["A"] == "1"
        trainers = [
            process.env for process in processes if (process.role, process.host) == ("trainer", agent.host)
        ]
        assert [env["RUDDER_AGENT"] for env in trainers] == [address] * 2
        assert {env["RUDDER_AGENT_MODEL"] for env in trainers} == {"/m.gguf"}
        assert {env["RUDDER_AGENT_THREADS"] for env in trainers} == {"2"}
        assert {env["RUDDER_CONTROLLER"] for env in trainers} == {"agent"}
    assert all("RUDDER_AGENT" not in process.env for process in processes if process.role == "server")


def test_trainers_of_a_host_have_a_board_and_share_where_that_is_asked_for():
    shared, alone = _plan(trainers=2, share_memory=True), _plan(trainers=2)
    for processes, expected in ((shared, "1"), (alone, None)):
        for trainer in (process for process in processes if process.role == "trainer"):
            assert trainer.env["RUDDER_SHARES"] == f"{{job_folder}}/shares{trainer.host}"
            assert trainer.env.get("RUDDER_SHARE_MEMORY") == expected


@pytest.mark.parametrize("controller", ["", "rule"])
def test_other_controllers_need_no_agent(controller):
    processes = _plan(controller=controller)
    assert {process.role for process in processes} == {"server", "trainer"}
    assert processes[-1].env.get("RUDDER_CONTROLLER", "") == controller
    assert "RUDDER_AGENT" not in processes[-1].env


def test_the_agent_s_model_may_come_from_the_environment(monkeypatch):
    job = Job("s.py", [], "/p.json", controller="agent")
    monkeypatch.delenv("RUDDER_AGENT_MODEL", raising=False)
    assert planned(job) == Keepers("")  # the one that comes with the package, wherever that is on each host
    monkeypatch.setenv("RUDDER_AGENT_MODEL", "/n.gguf")
    assert planned(job) == Keepers("/n.gguf")
    assert planned(replace(job, agent_model="/m.gguf")) == Keepers("/m.gguf")


def test_the_agent_s_room_may_come_from_the_environment_too(monkeypatch):
    job = Job("s.py", [], "/p.json", controller="agent")
    monkeypatch.delenv("RUDDER_AGENT_MODEL", raising=False)
    monkeypatch.setenv("RUDDER_AGENT_CONTEXT", "8192")
    assert planned(job) == Keepers("", Room(context=8192))
    named = planned(replace(job, agent_context=2048, agent_threads=3))
    assert named == Keepers("", Room(2048, 3))
    monkeypatch.setenv("RUDDER_AGENT_CONTEXT", "much")
    with pytest.raises(ConfigError, match="RUDDER_AGENT_CONTEXT=much"):
        planned(job)
    with pytest.raises(ConfigError, match="threads 0"):
        planned(replace(job, agent_context=2048, agent_threads=0))
