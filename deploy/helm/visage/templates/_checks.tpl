{{/* What the schema can't say: values that do not go together. Every fault at once, each with what to do. */}}
{{- define "visage.checks" -}}
{{- $v := .Values -}}
{{- $faults := list -}}
{{- if not $v.image.repository -}}
{{- $faults = append $faults "image.repository: name where you pushed the image (docs/kubernetes.md)" -}}
{{- end -}}
{{- range $path, $name := dict "image.tag" $v.image.tag "nats.image" $v.nats.image "qdrant.image" $v.qdrant.image -}}
{{- if regexMatch "(^|:)latest$" $name -}}
{{- $faults = append $faults (printf "%s: latest is another program tomorrow; name a version" $path) -}}
{{- end -}}
{{- end -}}
{{- $tls := include "visage.tlsSecret" . -}}
{{- if and (not $tls) (not $v.insecure) -}}
{{- $faults = append $faults "tls.secretName: there is no TLS; name a Secret with tls.crt and tls.key, set tls.certificate.enabled with cert-manager, or say insecure: true where a proxy or a mesh encrypts" -}}
{{- end -}}
{{- if and $tls $v.insecure -}}
{{- $faults = append $faults "insecure: takes no TLS Secret beside it; take one of the two out" -}}
{{- end -}}
{{- if and $v.tls.certificate.enabled (not $v.tls.certificate.issuer.name) -}}
{{- $faults = append $faults "tls.certificate.issuer.name: name an issuer of cert-manager" -}}
{{- end -}}
{{- if and $v.tls.clientCaSecretName (not $tls) -}}
{{- $faults = append $faults "tls.clientCaSecretName: client certificates need TLS; name tls.secretName" -}}
{{- end -}}
{{- if and (not $v.auth.required) (not $v.insecure) -}}
{{- $faults = append $faults "auth.required: false goes with insecure: true only; without tokens whoever reaches the server may do everything" -}}
{{- end -}}
{{- if and $v.monitoring.serviceMonitor.enabled $v.auth.required (not $v.auth.viewerTokenSecret.name) -}}
{{- $faults = append $faults "auth.viewerTokenSecret.name: /metrics asks for a token; make one of the role viewer, put it in a Secret and name that (docs/kubernetes.md)" -}}
{{- end -}}
{{- if and $v.qdrant.enabled $v.gallery.qdrant.url -}}
{{- $faults = append $faults "gallery.qdrant.url: names a Qdrant, and qdrant.enabled makes another; take one of the two out" -}}
{{- end -}}
{{- if and $v.gallery.qdrant.apiKeySecret.name (not $v.gallery.qdrant.url) (not $v.qdrant.enabled) -}}
{{- $faults = append $faults "gallery.qdrant.apiKeySecret: is for a Qdrant that gallery.qdrant.url names, or qdrant.enabled" -}}
{{- end -}}
{{- if eq $v.mode "cluster" -}}
{{- if and (not $v.cluster.nats.servers) (not $v.nats.enabled) -}}
{{- $faults = append $faults "cluster.nats.servers: mode cluster keeps its state in NATS JetStream; name its servers, or set nats.enabled for a single one" -}}
{{- end -}}
{{- if and $v.cluster.nats.servers $v.nats.enabled -}}
{{- $faults = append $faults "cluster.nats.servers: names servers, and nats.enabled makes another; take one of the two out" -}}
{{- end -}}
{{- if not $v.storageKey.secretName -}}
{{- $faults = append $faults "storageKey.secretName: every node of a cluster needs the same key; `openssl rand -base64 32` makes one for a Secret" -}}
{{- end -}}
{{- if and $v.nats.enabled (ne (int $v.cluster.replicas) 1) -}}
{{- $faults = append $faults "cluster.replicas: a single NATS keeps 1 copy; set 1, or name servers of a NATS cluster" -}}
{{- end -}}
{{- if $v.backup.enabled -}}
{{- $faults = append $faults "backup.enabled: is for mode embedded; back up the streams of NATS instead (docs/kubernetes.md)" -}}
{{- end -}}
{{- if dig "unknowns" "keep" false $v.config -}}
{{- $faults = append $faults "config.unknowns.keep: is not there in mode cluster" -}}
{{- end -}}
{{- else -}}
{{- if $v.nats.enabled -}}
{{- $faults = append $faults "nats.enabled: mode embedded needs no NATS; take it out, or set mode: cluster" -}}
{{- end -}}
{{- if or $v.ingest.autoscaling.enabled $v.api.autoscaling.enabled -}}
{{- $faults = append $faults "autoscaling: mode embedded is one server; give it more cores, or set mode: cluster" -}}
{{- end -}}
{{- end -}}
{{- if and (or $v.nats.enabled $v.qdrant.enabled) (not $v.networkPolicy.enabled) -}}
{{- $faults = append $faults "networkPolicy.enabled: the own NATS and Qdrant ask nobody who they are, only the network policy keeps others away; leave it on" -}}
{{- end -}}
{{- range $part := list "ingest" "api" -}}
{{- $scale := (index $v $part).autoscaling -}}
{{- if gt (int $scale.minReplicas) (int $scale.maxReplicas) -}}
{{- $faults = append $faults (printf "%s.autoscaling: minReplicas is above maxReplicas" $part) -}}
{{- end -}}
{{- end -}}
{{- /* Settings that the chart makes itself: two places for one thing would contradict each other. */ -}}
{{- range $path, $instead := dict "store" "mode" "auth" "auth" "storage" "storageKey" "cluster" "cluster" "server.listen" "service.grpcPort" "server.http" "service.httpPort" "server.data_dir" "nothing: it is /var/lib/visage" "server.insecure" "insecure" "server.tls" "tls" "server.role" "mode" "gallery.backend" "gallery.qdrant.url" "gallery.qdrant" "gallery.qdrant" "models.dir" "models.claim" "inference.provider" "gpu" "cameras.networks" "cameras.networks" -}}
{{- $keys := splitList "." $path -}}
{{- $table := $v.config -}}
{{- if eq (len $keys) 2 -}}
{{- $table = get $v.config (first $keys) -}}
{{- end -}}
{{- if and (kindIs "map" $table) (hasKey $table (last $keys)) -}}
{{- $faults = append $faults (printf "config.%s: the chart sets it; use the value %s" $path $instead) -}}
{{- end -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n\nthe values do not go together:\n  - %s\n" (join "\n  - " $faults)) -}}
{{- end -}}
{{- end -}}
