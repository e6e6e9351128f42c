{{/* visage.toml of a part: (dict "root" $ "part" "ingest"). The chart's own settings win over `config`, which may not name them (checks). */}}
{{- define "visage.config" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $own := dict -}}
{{- $server := dict "listen" (printf "0.0.0.0:%v" $v.service.grpcPort) "http" (printf "0.0.0.0:%v" $v.service.httpPort) "data_dir" "/var/lib/visage" -}}
{{- if include "visage.tlsSecret" $root -}}
{{- $tls := dict "certificate" "/etc/visage/tls/tls.crt" "private_key" "/etc/visage/tls/tls.key" -}}
{{- if $v.tls.clientCaSecretName -}}{{- $_ := set $tls "client_ca" "/etc/visage/client-ca/ca.crt" -}}{{- end -}}
{{- $_ := set $server "tls" $tls -}}
{{- end -}}
{{- if $v.insecure -}}{{- $_ := set $server "insecure" true -}}{{- end -}}
{{- $_ := set $own "auth" (dict "required" $v.auth.required) -}}
{{- if $v.storageKey.secretName -}}{{- $_ := set $own "storage" (dict "key_file" "/etc/visage/key/visage.key") -}}{{- end -}}
{{- if kindIs "slice" $v.cameras.networks -}}{{- $_ := set $own "cameras" (dict "networks" $v.cameras.networks) -}}{{- end -}}
{{- if $v.models.claim -}}{{- $_ := set $own "models" (dict "dir" "/models") -}}{{- end -}}
{{- if eq (include "visage.gpu" .) "true" -}}{{- $_ := set $own "inference" (dict "provider" $v.gpu.provider) -}}{{- end -}}
{{- $qdrant := include "visage.qdrantUrl" $root -}}
{{- if $qdrant -}}
{{- $to := dict "url" $qdrant -}}
{{- if $v.gallery.qdrant.collectionPrefix -}}{{- $_ := set $to "collection_prefix" $v.gallery.qdrant.collectionPrefix -}}{{- end -}}
{{- $_ := set $own "gallery" (dict "backend" "qdrant" "qdrant" $to) -}}
{{- end -}}
{{- if eq $v.mode "cluster" -}}
{{- $_ := set $own "store" "cluster" -}}
{{- $_ := set $server "role" .part -}}
{{- $nats := $v.cluster.nats -}}
{{- $servers := $nats.servers -}}
{{- if $v.nats.enabled -}}{{- $servers = list (printf "nats://%s-nats.%s.svc:4222" (include "visage.fullname" $root) $root.Release.Namespace) -}}{{- end -}}
{{- $cluster := dict "servers" $servers "name" $v.cluster.name "replicas" $v.cluster.replicas "lease_seconds" $v.cluster.leaseSeconds "capacity" $v.cluster.capacity -}}
{{- if $nats.credentialsSecret.name -}}{{- $_ := set $cluster "credentials" "/etc/visage/nats/user.creds" -}}{{- end -}}
{{- if $nats.caSecret.name -}}{{- $_ := set $cluster "ca" "/etc/visage/nats-ca/ca.crt" -}}{{- end -}}
{{- $_ := set $own "cluster" $cluster -}}
{{- end -}}
{{- $_ := set $own "server" $server -}}
{{- include "visage.toml" (dict "path" "" "table" (mergeOverwrite (deepCopy $v.config) $own)) | trim -}}
{{- end -}}

{{/* Address of Qdrant's gRPC; empty: none. */}}
{{- define "visage.qdrantUrl" -}}
{{- if .Values.qdrant.enabled -}}
http://{{ include "visage.fullname" . }}-qdrant.{{ .Release.Namespace }}.svc:6334
{{- else -}}
{{ .Values.gallery.qdrant.url }}
{{- end -}}
{{- end -}}

{{/* Seconds that a shutdown may take, as the server is told. */}}
{{- define "visage.grace" -}}
{{- int64 (dig "server" "grace_seconds" 10 .Values.config) -}}
{{- end -}}
