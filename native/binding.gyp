{
  "target_defaults": {
    "cflags_c": ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden"],
    "include_dirs": ["../node_modules/better-sqlite3/deps/sqlite3"],
    "defines": ["_GNU_SOURCE"]
  },
  "targets": [
    {
      "target_name": "eventd",
      "sources": [
        "<!@(node -p \"require('fs').readdirSync('.').filter(f => f.endsWith('.c')).sort().join(' ')\")"
      ],
      # Threads of its own outlive the environment that loaded it, so the code must stay.
      "ldflags": ["-Wl,-z,nodelete"],
      "libraries": ["-lpthread"]
    },
    {
      "target_name": "ringload",
      "type": "executable",
      "sources": ["tools/ringload.c", "ring_file.c", "ring_map.c", "ring_read.c", "ring_wait.c", "ring_write.c"],
      "libraries": ["-lpthread"]
    },
    {
      "target_name": "dgramload",
      "type": "executable",
      "sources": ["tools/dgramload.c", "msgpack.c", "msgpack_write.c", "utf8.c"]
    }
  ]
}
