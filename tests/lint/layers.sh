#!/bin/bash
# Who may include whom. The arrows of docs/decisions.md ("Folders and layers"); a file below a folder of
# column 1 may include project files below the folders of column 2, and the public headers <godwit/...>.
# host/core sees the interface of the store, which is part of its environment, and nothing behind it.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
fault() {
    echo "$1"
    bad=1
}

# Longest folder first: the first row that matches a file counts.
arrows='
protocol/include godwit
protocol/base    protocol/base protocol/limits.h
protocol         protocol
agents/include   -
clients/include  -
persistence      persistence protocol
agents/sdk       agents/sdk protocol
agents/runner    agents/runner agents/sdk protocol
agents/builtin   agents/builtin
host/core        host/core persistence/store.h persistence/storage.h protocol
host/files       host/files persistence protocol
host/main.c      host agents clients persistence protocol
host             host persistence agents/sdk protocol
clients/lib      clients/lib protocol
clients/cli      clients/cli clients/lib protocol
demos            -
'
while read -r file; do
    allowed=
    while read -r folder rest; do
        case $file in "$folder"/* | "$folder") allowed=$rest && break ;; esac
    done <<<"$arrows"
    [ -n "$allowed" ] || { fault "$file: belongs to no layer; give its folder a row in $0" && continue; }
    while IFS= read -r included; do
        ok=
        case $included in godwit/*) continue ;; esac # public headers, also named with quotes
        for folder in $allowed; do
            case $included in "$folder" | "$folder"/*) ok=1 ;; esac
        done
        [ -n "$ok" ] || fault "$file: includes \"$included\"; its layer may include only: $allowed"
    done < <(sed -nE 's/^ *# *include +"([^"]+)".*/\1/p' "$file")
done < <(find protocol persistence agents host clients demos -name '*.[ch]' | sort)

# Which library may be seen where: pattern of the header, then the places.
only() {
    local pattern=$1 where=$2
    while IFS=: read -r file line text; do
        [[ $file =~ ^($where) ]] || fault "$file:$line: $text stands outside of $where"
    done < <(grep -rnE --include='*.[ch]' "^ *# *include +<($pattern)" \
        protocol persistence agents host clients demos)
}
only 'msgpack' 'protocol/'
only 'jansson' 'protocol/json\.c'
only 'sqlite3' 'persistence/'
only 'event2/' 'host/|agents/runner/'
only 'cyaml' 'host/config'
only 'libsmartcols' 'clients/cli/'
only 'openssl/(ssl|x509|pem|bio|tls)' 'host/net/|host/trust/|clients/lib/'
exit $bad
