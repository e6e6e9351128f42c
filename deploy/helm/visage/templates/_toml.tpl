{{/* Values as TOML. Helm's own toToml writes every number of values.yaml as a float, which whole-number settings refuse. */}}

{{- define "visage.toml.value" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}
{{- else -}}{{ toJson . }}
{{- end -}}
{{- end -}}

{{/* A table: (dict "path" "inference" "table" $map): its own keys, then the tables in it. */}}
{{- define "visage.toml" -}}
{{- $path := .path -}}
{{- if $path }}
[{{ $path }}]
{{- end }}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ include "visage.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{ include "visage.toml" (dict "path" (ternary $key (printf "%s.%s" $path $key) (empty $path)) "table" $value) }}
{{- end }}
{{- end }}
{{- end -}}
