#!/bin/sh
# Measure Erlang/OTP: prints lines "name value" on standard output, notes on standard error. What is not
# installed is left out.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v erlc >/dev/null && command -v erl >/dev/null || {
    echo "note: no Erlang beside it (erl, erlc: Debian erlang-base)" >&2
    exit 0
}
work=$(mktemp -d "${TMPDIR:-/tmp}/godwit-peer-XXXXXX")
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

erlc -o "$work" "$here/godwit_peer.erl"
cd "$work"
erl -noinput -pa "$work" -eval 'godwit_peer:local()'

has_ssl=$(erl -noinput -eval 'io:format("~p", [code:which(ssl) =/= non_existing]), halt().')
[ "$has_ssl" = true ] && command -v openssl >/dev/null || {
    echo "note: no Erlang between two nodes beside it (TLS: Debian erlang-ssl, openssl)" >&2
    exit 0
}
{
    ec='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    # shellcheck disable=SC2086 # words
    openssl req -x509 $ec -days 2 -subj /CN=bench -keyout ca.key -out ca.pem
    # shellcheck disable=SC2086
    openssl req $ec -subj /CN=127.0.0.1 -keyout key.pem -out csr.pem
    echo 'subjectAltName=DNS:127.0.0.1,IP:127.0.0.1' >names
    openssl x509 -req -days 2 -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out cert.pem
} >openssl.log 2>&1 || {
    cat openssl.log >&2
    exit 1
}
ends="{certfile, \"$work/cert.pem\"}, {keyfile, \"$work/key.pem\"}, {cacertfile, \"$work/ca.pem\"},
      {verify, verify_peer}, {versions, ['tlsv1.3']}"
echo "[{server, [$ends, {fail_if_no_peer_cert, true}]}, {client, [$ends]}]." >tls.conf

free_port() {
    erl -noinput -eval '{ok, S} = gen_tcp:listen(0, []), {ok, P} = inet:port(S), io:format("~p", [P]), halt().'
}
node() {
    name=$1
    shift
    exec erl -noinput -pa "$work" -epmd_module godwit_peer -start_epmd false -proto_dist inet_tls \
        -ssl_dist_optfile "$work/tls.conf" -name "$name@127.0.0.1" -setcookie "$cookie" \
        -kernel inet_dist_use_interface '{127,0,0,1}' "$@"
}
cookie=$(openssl rand -hex 16)
there=there-$(free_port)
here_too=here-$(free_port)
mkfifo ready
(node "$there" -eval 'godwit_peer:serve()' >ready 2>server.log) &
server=$!
read -r said <ready
[ "$said" = ready ] || {
    cat server.log >&2
    exit 1
}
(node "$here_too" -eval "godwit_peer:remote(['$there@127.0.0.1'])")
