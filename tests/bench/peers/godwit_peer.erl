%% The same things in Erlang/OTP, for the bench to print beside ours: spawn, a local round trip, and
%% between two nodes over TLS gen_server:call and moving 1 KiB of state by spawn and send.
%% Nothing of it is durable. Prints lines "name value"; tests/bench/peers/erlang.sh runs it.
%%
%% It is its own -epmd_module: the listening port is part of the node's name, so no daemon is left
%% behind.
-module(godwit_peer).
-behaviour(gen_server).
-export([local/0, remote/1, serve/0]).
-export([init/1, handle_call/3, handle_cast/2]).
-export([pong/0, arrive/3]).
-export([start_link/0, register_node/2, register_node/3, port_please/2, port_please/3,
         address_please/3, listen_port_please/2, names/1]).

-define(ROUNDS, 5).

say(Name, Value) ->
    io:format("~s ~.3f~n", [Name, float(Value)]).

median(List) ->
    lists:nth(length(List) div 2 + 1, lists:sort(List)).

%% Microseconds of F, the median of some rounds.
timed(F) ->
    median([element(1, timer:tc(F)) || _ <- lists:seq(1, ?ROUNDS)]).

%% ---- one node ----

local() ->
    say("spawn_per_s", spawn_rate(100000)),
    Pong = spawn(?MODULE, pong, []),
    N = 300000,
    say("local_ns", timed(fun() -> ping(Pong, N) end) * 1000 / N),
    exit(Pong, kill),
    {ok, Server} = gen_server:start(?MODULE, [], []),
    Calls = 200000,
    say("call_local_ns", timed(fun() -> calls(Server, Calls) end) * 1000 / Calls),
    halt(0).

%% Processes that stay, each with a state, and that have said that they are there.
spawn_rate(N) ->
    Us = timed(fun() ->
                       Self = self(),
                       Pids = [spawn(?MODULE, arrive, [Self, I, none]) || I <- lists:seq(1, N)],
                       [receive {arrived, I} -> ok end || I <- lists:seq(1, N)],
                       [exit(P, kill) || P <- Pids]
               end),
    N * 1.0e6 / Us.

pong() ->
    receive {ping, From} -> From ! pong, pong() end.

ping(_, 0) -> ok;
ping(Pong, N) ->
    Pong ! {ping, self()},
    receive pong -> ping(Pong, N - 1) end.

%% ---- two nodes ----

serve() ->
    {ok, _} = gen_server:start({local, ?MODULE}, ?MODULE, [], []),
    io:format("ready~n").

remote([Node]) ->
    true = net_kernel:connect_node(Node),
    Server = {?MODULE, Node},
    State = crypto:strong_rand_bytes(1024),
    calls(Server, 500), moves(Node, State, 500),
    say("call_us", one_by_one(fun() -> calls(Server, 1) end, 4000)),
    say("call_per_s_64", in_flight(64, 400, fun(N) -> calls(Server, N) end)),
    say("move_us", one_by_one(fun() -> moves(Node, State, 1) end, 4000)),
    say("move_per_s_64", in_flight(64, 200, fun(N) -> moves(Node, State, N) end)),
    rpc:cast(Node, erlang, halt, [0]),
    timer:sleep(100),
    halt(0).

calls(_, 0) -> ok;
calls(Server, N) ->
    ok = gen_server:call(Server, get),
    calls(Server, N - 1).

%% The process starts there with the state, says so, and is gone when the next one has come.
moves(_, _, 0) -> ok;
moves(Node, State, N) ->
    Pid = spawn(Node, ?MODULE, arrive, [self(), N, State]),
    receive {arrived, N} -> ok end,
    exit(Pid, kill),
    moves(Node, State, N - 1).

arrive(From, Number, State) ->
    From ! {arrived, Number},
    receive never -> State end.

one_by_one(F, N) ->
    median([element(1, timer:tc(F)) || _ <- lists:seq(1, N)]).

%% Rate with so many processes at it, each N times.
in_flight(Width, N, F) ->
    Us = timed(fun() ->
                       Refs = [element(2, spawn_monitor(fun() -> F(N) end))
                               || _ <- lists:seq(1, Width)],
                       [receive {'DOWN', R, process, _, normal} -> ok end || R <- Refs]
               end),
    Width * N * 1.0e6 / Us.

init([]) -> {ok, none}.
handle_call(get, _, State) -> {reply, ok, State}.
handle_cast(_, State) -> {noreply, State}.

%% ---- -epmd_module: "name-PORT@host" ----

port_of(Name) ->
    [_, Port | _] = string:tokens(hd(string:tokens(atom_or_list(Name), "@")), "-"),
    list_to_integer(Port).

atom_or_list(Name) when is_atom(Name) -> atom_to_list(Name);
atom_or_list(Name) -> Name.

start_link() -> ignore.
register_node(Name, Port) -> register_node(Name, Port, inet).
register_node(_, _, _) -> {ok, erlang:system_time(second) rem 1000 + 1}.
port_please(Name, _) -> {port, port_of(Name), 6}.
port_please(Name, Host, _) -> port_please(Name, Host).
address_please(_, Host, Family) -> inet:getaddr(Host, Family).
listen_port_please(Name, _) -> {ok, port_of(Name)}.
names(_) -> {error, address}.
