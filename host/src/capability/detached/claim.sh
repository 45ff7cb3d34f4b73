umask 077
mkdir -p "$d" || return 1
if mkdir "$d/taken" 2>/dev/null; then : >"$d/void"; say void; else up && say up "$how"; fi
