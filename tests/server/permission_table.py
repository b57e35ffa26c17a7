"""The expected answer of every route to every actor, in every state that makes a difference."""

from __future__ import annotations

from dataclasses import dataclass, field

#: anonymous, stranger, data owner, model owner, benchmark owner, three members of an organisation who each have one right, somebody who
#: left it, an admin, a token that expired, an account that was disabled
ACTORS = ("anon", "strn", "data", "modl", "bnch", "mana", "oper", "rele", "form", "admn", "expi", "disa")
HEADING = "anon strn data modl bnch mana oper rele form admn expi disa"

#: route | of what, or what is sent | one answer for each of ACTORS
TABLE = """
# anybody
GET /openapi.json                                         | -                          | 200  200  200  200  200  200  200  200  200  200  200  200
HEAD /openapi.json                                        | -                          | 200  200  200  200  200  200  200  200  200  200  200  200
GET /server                                               | -                          | 200  200  200  200  200  200  200  200  200  200  200  200
POST /tokens                                              | -                          | 201  201  201  201  201  201  201  201  201  201  201  201

# one's own account
GET /me                                                   | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /me/password                                         | -                          | 401  204  204  204  204  204  204  204  204  204  401  401
DELETE /tokens/current                                    | this login                 | 401  204  204  204  204  204  204  204  204  204  401  401

# admins
GET /users                                                | -                          | 401  403  403  403  403  403  403  403  403  200  401  401
POST /users                                               | -                          | 401  403  403  403  403  403  403  403  403  201  401  401
GET /users/{user_id}                                      | an account                 | 401  403  403  403  403  403  403  403  403  200  401  401
PATCH /users/{user_id}                                    | an account                 | 401  403  403  403  403  403  403  403  403  200  401  401
PATCH /users/{user_id}                                    | a disabled account         | 401  403  403  403  403  403  403  403  403  200  401  401
DELETE /users/{user_id}/personal                          | an account                 | 401  403  403  403  403  403  403  403  403  409  401  401
DELETE /users/{user_id}/personal                          | a disabled account         | 401  403  403  403  403  403  403  403  403  200  401  401
GET /audit-events                                         | -                          | 401  403  403  403  403  403  403  403  403  200  401  401
GET /audit-checkpoints                                    | -                          | 401  200  200  200  200  200  200  200  200  200  401  401

# MLCubes
GET /mlcubes                                              | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /mlcubes                                             | for oneself                | 401  201  201  201  201  201  201  201  201  201  401  401
POST /mlcubes                                             | for the model owner        | 401  400  400  201  400  400  400  400  400  400  401  401
POST /mlcubes                                             | for the organisation       | 401  400  400  400  400  403  201  403  400  400  401  401
GET /mlcubes/{mlcube_id}                                  | model owner's draft        | 401  404  404  200  404  404  404  404  404  200  401  401
GET /mlcubes/{mlcube_id}                                  | model owner's model        | 401  200  200  200  200  200  200  200  200  200  401  401
GET /mlcubes/{mlcube_id}                                  | model owner's invalid one  | 401  200  200  200  200  200  200  200  200  200  401  401
GET /mlcubes/{mlcube_id}                                  | organisation's draft       | 401  404  404  404  404  200  200  200  404  200  401  401
GET /mlcubes/{mlcube_id}                                  | organisation's model       | 401  200  200  200  200  200  200  200  200  200  401  401
PATCH /mlcubes/{mlcube_id} user_metadata                  | model owner's draft        | 401  404  404  200  404  404  404  404  404  403  401  401
PATCH /mlcubes/{mlcube_id} user_metadata                  | model owner's model        | 401  403  403  200  403  403  403  403  403  403  401  401
PATCH /mlcubes/{mlcube_id} user_metadata                  | model owner's invalid one  | 401  403  403  200  403  403  403  403  403  403  401  401
PATCH /mlcubes/{mlcube_id} user_metadata                  | organisation's draft       | 401  404  404  404  404  403  200  403  404  403  401  401
PATCH /mlcubes/{mlcube_id} user_metadata                  | organisation's model       | 401  403  403  403  403  403  200  403  403  403  401  401
PATCH /mlcubes/{mlcube_id} name                           | model owner's model        | 401  403  403  409  403  403  403  403  403  403  401  401
PATCH /mlcubes/{mlcube_id} name                           | organisation's model       | 401  403  403  403  403  403  409  403  403  403  401  401
PATCH /mlcubes/{mlcube_id} is_valid                       | model owner's draft        | 401  404  404  200  404  404  404  404  404  200  401  401
PATCH /mlcubes/{mlcube_id} is_valid                       | model owner's model        | 401  403  403  200  403  403  403  403  403  200  401  401
PATCH /mlcubes/{mlcube_id} is_valid                       | model owner's invalid one  | 401  403  403  200  403  403  403  403  403  200  401  401
PATCH /mlcubes/{mlcube_id} is_valid                       | organisation's draft       | 401  404  404  404  404  200  403  403  404  200  401  401
PATCH /mlcubes/{mlcube_id} is_valid                       | organisation's model       | 401  403  403  403  403  200  403  403  403  200  401  401
PATCH /mlcubes/{mlcube_id} is_valid user_metadata         | organisation's model       | 401  403  403  403  403  403  403  403  403  403  401  401

# benchmarks
GET /benchmarks                                           | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /benchmarks                                          | for oneself                | 401  201  201  201  201  201  201  201  201  201  401  401
POST /benchmarks                                          | for the model owner        | 401  400  400  201  400  400  400  400  400  400  401  401
POST /benchmarks                                          | for the organisation       | 401  400  400  400  400  403  201  403  400  400  401  401
GET /benchmarks/{benchmark_id}                            | development                | 401  404  404  404  200  404  404  404  404  200  401  401
GET /benchmarks/{benchmark_id}                            | pending                    | 401  404  404  404  200  404  404  404  404  200  401  401
GET /benchmarks/{benchmark_id}                            | approved                   | 401  200  200  200  200  200  200  200  200  200  401  401
GET /benchmarks/{benchmark_id}                            | rejected                   | 401  404  404  404  200  404  404  404  404  200  401  401
GET /benchmarks/{benchmark_id}                            | invalid                    | 401  200  200  200  200  200  200  200  200  200  401  401
GET /benchmarks/{benchmark_id}                            | organisation's pending     | 401  404  404  404  404  200  200  200  404  200  401  401
GET /benchmarks/{benchmark_id}                            | organisation's approved    | 401  200  200  200  200  200  200  200  200  200  401  401
PATCH /benchmarks/{benchmark_id} user_metadata            | development                | 401  404  404  404  200  404  404  404  404  403  401  401
PATCH /benchmarks/{benchmark_id} user_metadata            | pending                    | 401  404  404  404  200  404  404  404  404  403  401  401
PATCH /benchmarks/{benchmark_id} user_metadata            | approved                   | 401  403  403  403  200  403  403  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} user_metadata            | rejected                   | 401  404  404  404  200  404  404  404  404  403  401  401
PATCH /benchmarks/{benchmark_id} user_metadata            | invalid                    | 401  403  403  403  200  403  403  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} user_metadata            | organisation's pending     | 401  404  404  404  404  403  200  403  404  403  401  401
PATCH /benchmarks/{benchmark_id} user_metadata            | organisation's approved    | 401  403  403  403  403  403  200  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} description              | pending                    | 401  404  404  404  409  404  404  404  404  403  401  401
PATCH /benchmarks/{benchmark_id} is_valid                 | development                | 401  404  404  404  200  404  404  404  404  200  401  401
PATCH /benchmarks/{benchmark_id} is_valid                 | pending                    | 401  404  404  404  200  404  404  404  404  200  401  401
PATCH /benchmarks/{benchmark_id} is_valid                 | approved                   | 401  403  403  403  200  403  403  403  403  200  401  401
PATCH /benchmarks/{benchmark_id} is_valid                 | rejected                   | 401  404  404  404  200  404  404  404  404  200  401  401
PATCH /benchmarks/{benchmark_id} is_valid                 | invalid                    | 401  403  403  403  200  403  403  403  403  200  401  401
PATCH /benchmarks/{benchmark_id} is_valid                 | organisation's pending     | 401  404  404  404  404  200  403  403  404  200  401  401
PATCH /benchmarks/{benchmark_id} is_valid                 | organisation's approved    | 401  403  403  403  403  200  403  403  403  200  401  401
PATCH /benchmarks/{benchmark_id} is_active                | pending                    | 401  404  404  404  200  404  404  404  404  403  401  401
PATCH /benchmarks/{benchmark_id} is_active                | approved                   | 401  403  403  403  200  403  403  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} is_active                | organisation's pending     | 401  404  404  404  404  200  403  403  404  403  401  401
PATCH /benchmarks/{benchmark_id} is_active                | organisation's approved    | 401  403  403  403  403  200  403  403  403  403  401  401
POST /benchmarks/{benchmark_id}/decision                  | development                | 401  403  403  403  403  403  403  403  403  409  401  401
POST /benchmarks/{benchmark_id}/decision                  | pending                    | 401  403  403  403  403  403  403  403  403  200  401  401
POST /benchmarks/{benchmark_id}/decision                  | approved                   | 401  403  403  403  403  403  403  403  403  409  401  401
POST /benchmarks/{benchmark_id}/decision                  | rejected                   | 401  403  403  403  403  403  403  403  403  409  401  401
POST /benchmarks/{benchmark_id}/decision                  | invalid                    | 401  403  403  403  403  403  403  403  403  409  401  401
POST /benchmarks/{benchmark_id}/decision                  | organisation's pending     | 401  403  403  403  403  403  403  403  403  200  401  401

# assets
GET /assets                                               | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
GET /assets/{asset_id}                                    | reference model's file     | 401  404  404  200  404  404  404  404  404  200  401  401
GET /assets/{asset_id}                                    | demo data of approved      | 401  200  200  200  200  200  200  200  200  200  401  401
GET /assets/{asset_id}                                    | demo data of pending       | 401  404  404  404  200  404  404  404  404  200  401  401
GET /assets/{asset_id}                                    | data owner's own           | 401  404  200  404  404  404  404  404  404  200  401  401
GET /assets/{asset_id}                                    | organisation's own         | 401  404  404  404  404  200  200  200  404  200  401  401
GET /assets/{asset_id}/content                            | reference model's file     | 401  404  404  200  404  404  404  404  404  404  401  401
GET /assets/{asset_id}/content                            | demo data of approved      | 401  200  200  200  200  200  200  200  200  200  401  401
GET /assets/{asset_id}/content                            | demo data of pending       | 401  404  404  404  200  404  404  404  404  200  401  401
GET /assets/{asset_id}/content                            | data owner's own           | 401  404  200  404  404  404  404  404  404  404  401  401
GET /assets/{asset_id}/content                            | organisation's own         | 401  404  404  404  404  200  200  200  404  404  401  401
HEAD /assets/{asset_id}/content                           | organisation's own         | 401  404  404  404  404  200  200  200  404  404  401  401
DELETE /assets/{asset_id}                                 | reference model's file     | 401  404  404  409  404  404  404  404  404  403  401  401
DELETE /assets/{asset_id}                                 | demo data of approved      | 401  403  403  403  409  403  403  403  403  403  401  401
DELETE /assets/{asset_id}                                 | a new one of data owner    | 401  404  204  404  404  404  404  404  404  403  401  401
DELETE /assets/{asset_id}                                 | a new one of organisation  | 401  404  404  404  404  403  204  403  404  403  401  401

# uploads: of one account, whoever will own the asset
GET /uploads                                              | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /uploads                                             | for oneself                | 401  201  201  201  201  201  201  201  201  201  401  401
POST /uploads                                             | for the model owner        | 401  400  400  201  400  400  400  400  400  400  401  401
POST /uploads                                             | for the organisation       | 401  400  400  400  400  403  201  403  400  400  401  401
GET /uploads/{upload_id}                                  | model owner's upload       | 401  404  404  200  404  404  404  404  404  404  401  401
GET /uploads/{upload_id}                                  | organisation's upload      | 401  404  404  404  404  404  200  404  404  404  401  401
PATCH /uploads/{upload_id}                                | model owner's upload       | 401  404  404  204  404  404  404  404  404  404  401  401
PATCH /uploads/{upload_id}                                | organisation's upload      | 401  404  404  404  404  404  204  404  404  404  401  401
POST /uploads/{upload_id}/completion                      | model owner's whole one    | 401  404  404  201  404  404  404  404  404  404  401  401
POST /uploads/{upload_id}/completion                      | organisation's whole one   | 401  404  404  404  404  404  201  404  404  404  401  401
DELETE /uploads/{upload_id}                               | model owner's upload       | 401  404  404  204  404  404  404  404  404  404  401  401
DELETE /uploads/{upload_id}                               | organisation's upload      | 401  404  404  404  404  404  204  404  404  404  401  401
GET /storage                                              | for oneself                | 401  200  200  200  200  200  200  200  200  200  401  401
GET /storage                                              | for the organisation       | 401  400  400  400  400  200  200  200  400  400  401  401

# organisations
GET /organisations                                        | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /organisations                                       | -                          | 401  201  201  201  201  201  201  201  201  201  401  401
GET /organisations/{organisation_id}                      | organisation               | 401  404  404  404  404  200  200  200  404  200  401  401
GET /organisations/{organisation_id}                      | unmanaged organisation     | 401  404  404  404  404  404  404  404  404  200  401  401
PATCH /organisations/{organisation_id}                    | organisation               | 401  404  404  404  404  200  403  403  404  403  401  401
PATCH /organisations/{organisation_id}                    | unmanaged organisation     | 401  404  404  404  404  404  404  404  404  403  401  401
GET /organisations/{organisation_id}/members              | organisation               | 401  404  404  404  404  200  200  200  404  200  401  401
GET /organisations/{organisation_id}/members              | unmanaged organisation     | 401  404  404  404  404  404  404  404  404  200  401  401
PATCH /organisations/{organisation_id}/members/{user_id}  | organisation               | 401  404  404  404  404  200  403  403  404  403  401  401
PATCH /organisations/{organisation_id}/members/{user_id}  | unmanaged organisation     | 401  404  404  404  404  404  404  404  404  200  401  401
DELETE /organisations/{organisation_id}/members/{user_id} | organisation               | 401  404  404  404  404  204  403  403  404  403  401  401
DELETE /organisations/{organisation_id}/members/{user_id} | organisation: oneself      | 401  404  404  404  404  204  204  204  404  404  401  401
DELETE /organisations/{organisation_id}/members/{user_id} | unmanaged organisation     | 401  404  404  404  404  404  404  404  404  204  401  401
GET /organisations/{organisation_id}/invitations          | organisation               | 401  404  404  404  404  200  403  403  404  403  401  401
GET /organisations/{organisation_id}/invitations          | unmanaged organisation     | 401  404  404  404  404  404  404  404  404  200  401  401
POST /organisations/{organisation_id}/invitations         | organisation               | 401  404  404  404  404  201  403  403  404  403  401  401
POST /organisations/{organisation_id}/invitations         | unmanaged organisation     | 401  404  404  404  404  404  404  404  404  201  401  401
DELETE /organisations/{organisation_id}/invitations/{invitation_id} | organisation     | 401  404  404  404  404  204  403  403  404  403  401  401
DELETE /organisations/{organisation_id}/invitations/{invitation_id} | unmanaged organisation | 401  404  404  404  404  404  404  404  404  204  401  401
GET /invitations                                          | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /invitations/{invitation_id}/answer                  | to oneself                 | 401  200  200  200  200  200  200  200  200  200  401  401
POST /invitations/{invitation_id}/answer                  | to somebody else           | 401  404  404  404  404  404  404  404  404  404  401  401

# what a benchmark says about who joins it and who sees its results
PATCH /benchmarks/{benchmark_id} auto_models              | pending                    | 401  404  404  404  200  404  404  404  404  403  401  401
PATCH /benchmarks/{benchmark_id} auto_models              | approved                   | 401  403  403  403  200  403  403  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} auto_models              | organisation's approved    | 401  403  403  403  403  200  403  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} auto_datasets            | pending                    | 401  404  404  404  200  404  404  404  404  403  401  401
PATCH /benchmarks/{benchmark_id} auto_datasets            | approved                   | 401  403  403  403  200  403  403  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} auto_datasets            | organisation's approved    | 401  403  403  403  403  200  403  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} results_visibility       | pending                    | 401  404  404  404  200  404  404  404  404  403  401  401
PATCH /benchmarks/{benchmark_id} results_visibility       | approved                   | 401  403  403  403  200  403  403  403  403  403  401  401
PATCH /benchmarks/{benchmark_id} results_visibility       | organisation's approved    | 401  403  403  403  403  200  403  403  403  403  401  401

# datasets
GET /datasets                                             | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /datasets                                            | for oneself                | 401  201  201  201  201  201  201  201  201  201  401  401
POST /datasets                                            | for the data owner         | 401  400  201  400  400  400  400  400  400  400  401  401
POST /datasets                                            | for the organisation       | 401  400  400  400  400  403  201  403  400  400  401  401
GET /datasets/{dataset_id}                                | data owner's draft         | 401  404  200  404  404  404  404  404  404  200  401  401
GET /datasets/{dataset_id}                                | data owner's dataset       | 401  404  200  404  404  404  404  404  404  200  401  401
GET /datasets/{dataset_id}                                | data owner's that asked    | 401  404  200  404  200  404  404  404  404  200  401  401
GET /datasets/{dataset_id}                                | data owner's that asked the organisation | 401  404  200  404  404  200  200  200  404  200  401  401
GET /datasets/{dataset_id}                                | data owner's that was invited | 401  404  200  404  404  404  404  404  404  200  401  401
GET /datasets/{dataset_id}                                | data owner's that left     | 401  404  200  404  200  404  404  404  404  200  401  401
GET /datasets/{dataset_id}                                | organisation's dataset     | 401  404  404  404  404  200  200  200  404  200  401  401
PATCH /datasets/{dataset_id} site_label                   | data owner's draft         | 401  404  200  404  404  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} site_label                   | data owner's dataset       | 401  404  200  404  404  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} site_label                   | data owner's that asked    | 401  404  200  404  403  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} site_label                   | data owner's that asked the organisation | 401  404  200  404  404  403  403  403  404  403  401  401
PATCH /datasets/{dataset_id} site_label                   | data owner's that was invited | 401  404  200  404  404  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} site_label                   | data owner's that left     | 401  404  200  404  403  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} site_label                   | organisation's dataset     | 401  404  404  404  404  403  200  403  404  403  401  401
PATCH /datasets/{dataset_id} is_valid                     | data owner's draft         | 401  404  200  404  404  404  404  404  404  200  401  401
PATCH /datasets/{dataset_id} is_active                    | data owner's draft         | 401  404  200  404  404  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} is_valid                     | data owner's dataset       | 401  404  200  404  404  404  404  404  404  200  401  401
PATCH /datasets/{dataset_id} is_active                    | data owner's dataset       | 401  404  200  404  404  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} is_valid                     | data owner's that asked    | 401  404  200  404  403  404  404  404  404  200  401  401
PATCH /datasets/{dataset_id} is_active                    | data owner's that asked    | 401  404  200  404  403  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} is_valid                     | data owner's that asked the organisation | 401  404  200  404  404  403  403  403  404  200  401  401
PATCH /datasets/{dataset_id} is_active                    | data owner's that asked the organisation | 401  404  200  404  404  403  403  403  404  403  401  401
PATCH /datasets/{dataset_id} is_valid                     | data owner's that was invited | 401  404  200  404  404  404  404  404  404  200  401  401
PATCH /datasets/{dataset_id} is_active                    | data owner's that was invited | 401  404  200  404  404  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} is_valid                     | data owner's that left     | 401  404  200  404  403  404  404  404  404  200  401  401
PATCH /datasets/{dataset_id} is_active                    | data owner's that left     | 401  404  200  404  403  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} is_valid                     | organisation's dataset     | 401  404  404  404  404  200  403  403  404  200  401  401
PATCH /datasets/{dataset_id} is_active                    | organisation's dataset     | 401  404  404  404  404  200  403  403  404  403  401  401
PATCH /datasets/{dataset_id} name                         | data owner's dataset       | 401  404  409  404  404  404  404  404  404  403  401  401
PATCH /datasets/{dataset_id} name                         | organisation's dataset     | 401  404  404  404  404  403  409  403  404  403  401  401
PUT /datasets/{dataset_id}/statistics                     | data owner's draft         | 401  404  200  404  404  404  404  404  404  403  401  401
PUT /datasets/{dataset_id}/statistics                     | data owner's dataset       | 401  404  200  404  404  404  404  404  404  403  401  401
PUT /datasets/{dataset_id}/statistics                     | data owner's that asked    | 401  404  200  404  403  404  404  404  404  403  401  401
PUT /datasets/{dataset_id}/statistics                     | data owner's that asked the organisation | 401  404  200  404  404  403  403  403  404  403  401  401
PUT /datasets/{dataset_id}/statistics                     | data owner's that was invited | 401  404  200  404  404  404  404  404  404  403  401  401
PUT /datasets/{dataset_id}/statistics                     | data owner's that left     | 401  404  200  404  403  404  404  404  404  403  401  401
PUT /datasets/{dataset_id}/statistics                     | organisation's dataset     | 401  404  404  404  404  403  200  403  404  403  401  401

# associations: what the benchmark owner and the organisation were asked, and whom they invited
GET /associations                                         | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /associations                                        | data owner's dataset       | 401  400  201  400  400  400  400  400  400  403  401  401
POST /associations                                        | organisation's dataset     | 401  400  400  400  400  403  201  403  400  403  401  401
POST /associations                                        | model owner's model        | 401  403  403  201  403  403  403  403  403  403  401  401
POST /benchmarks/{benchmark_id}/invitations               | pending                    | 401  404  404  404  409  404  404  404  404  403  401  401
POST /benchmarks/{benchmark_id}/invitations               | approved                   | 401  403  403  403  201  403  403  403  403  403  401  401
POST /benchmarks/{benchmark_id}/invitations               | organisation's approved    | 401  403  403  403  403  403  201  403  403  403  401  401
GET /associations/{association_id}                        | dataset that asked         | 401  404  200  404  200  404  404  404  404  200  401  401
GET /associations/{association_id}                        | dataset that joined        | 401  404  200  404  200  404  404  404  404  200  401  401
GET /associations/{association_id}                        | model that asked           | 401  404  404  200  200  404  404  404  404  200  401  401
GET /associations/{association_id}                        | model that joined          | 401  200  200  200  200  200  200  200  200  200  401  401
GET /associations/{association_id}                        | dataset that asked the organisation | 401  404  200  404  404  200  200  200  404  200  401  401
GET /associations/{association_id}                        | dataset that the organisation invited | 401  404  200  404  404  200  200  200  404  200  401  401
GET /associations/{association_id}                        | model that joined the organisation's | 401  200  200  200  200  200  200  200  200  200  401  401
PATCH /associations/{association_id}                      | model that asked           | 401  404  404  403  200  404  404  404  404  403  401  401
PATCH /associations/{association_id}                      | model that joined          | 401  403  403  403  200  403  403  403  403  403  401  401
PATCH /associations/{association_id}                      | model that joined the organisation's | 401  403  403  403  403  200  403  403  403  403  401  401
POST /associations/{association_id}/decision              | dataset that asked: APPROVED | 401  404  403  404  200  404  404  404  404  403  401  401
POST /associations/{association_id}/decision              | dataset that asked: REJECTED | 401  404  403  404  200  404  404  404  404  403  401  401
POST /associations/{association_id}/decision              | dataset that asked: CANCELLED | 401  404  200  404  403  404  404  404  404  403  401  401
POST /associations/{association_id}/decision              | dataset that joined: REVOKED | 401  404  200  404  200  404  404  404  404  403  401  401
POST /associations/{association_id}/decision              | model that asked: APPROVED | 401  404  404  403  200  404  404  404  404  403  401  401
POST /associations/{association_id}/decision              | model that asked: CANCELLED | 401  404  404  200  403  404  404  404  404  403  401  401
POST /associations/{association_id}/decision              | model that joined: REVOKED | 401  403  403  200  200  403  403  403  403  403  401  401
POST /associations/{association_id}/decision              | dataset that asked the organisation: APPROVED | 401  404  403  404  404  200  403  403  404  403  401  401
POST /associations/{association_id}/decision              | dataset that asked the organisation: CANCELLED | 401  404  200  404  404  403  403  403  404  403  401  401
POST /associations/{association_id}/decision              | dataset that the organisation invited: APPROVED | 401  404  200  404  404  403  403  403  404  403  401  401
POST /associations/{association_id}/decision              | dataset that the organisation invited: CANCELLED | 401  404  403  404  404  200  200  403  404  403  401  401
POST /associations/{association_id}/decision              | model that joined the organisation's: REVOKED | 401  403  403  403  403  200  403  403  403  403  401  401

# executions: of the dataset's owner; a released result is the releaser's business, and being an admin shows none
GET /executions                                           | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
POST /executions                                          | data owner's               | 401  400  201  400  403  400  400  400  400  403  401  401
POST /executions                                          | organisation's             | 401  400  400  400  403  403  201  403  400  403  401  401
GET /executions/{execution_id}                            | data owner's               | 401  404  200  200  200  404  404  404  404  200  401  401
GET /executions/{execution_id}                            | organisation's             | 401  404  404  200  200  200  200  200  404  200  401  401
POST /executions/{execution_id}/attempts                  | data owner's               | 401  404  201  403  403  404  404  404  404  403  401  401
POST /executions/{execution_id}/attempts                  | organisation's             | 401  404  404  403  403  403  201  403  404  403  401  401
PATCH /executions/{execution_id}/attempts/{number}        | data owner's               | 401  404  200  403  403  404  404  404  404  403  401  401
PATCH /executions/{execution_id}/attempts/{number}        | organisation's             | 401  404  404  403  403  403  200  403  404  403  401  401
PUT /executions/{execution_id}/attempts/{number}/progress | data owner's               | 401  404  200  403  403  404  404  404  404  403  401  401
PUT /executions/{execution_id}/attempts/{number}/progress | organisation's             | 401  404  404  403  403  403  200  403  404  403  401  401
POST /executions/{execution_id}/release                   | data owner's               | 401  404  201  403  403  404  404  404  404  403  401  401
POST /executions/{execution_id}/release                   | organisation's             | 401  404  404  403  403  403  403  201  404  403  401  401
POST /executions/{execution_id}/withholding               | data owner's               | 401  404  200  403  403  404  404  404  404  403  401  401
POST /executions/{execution_id}/withholding               | organisation's             | 401  404  404  403  403  403  403  200  404  403  401  401
POST /executions/{execution_id}/retraction                | data owner's               | 401  404  200  403  403  404  404  404  404  403  401  401
POST /executions/{execution_id}/retraction                | organisation's             | 401  404  404  403  403  403  403  200  404  403  401  401
GET /results                                              | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
GET /results/{result_id}                                  | data owner's               | 401  404  200  200  200  404  404  404  404  404  401  401
GET /results/{result_id}                                  | organisation's             | 401  404  404  200  200  200  200  200  404  404  401  401
GET /results/{result_id}                                  | published                  | 401  200  200  200  200  200  200  200  200  200  401  401
GET /benchmarks/{benchmark_id}/results                    | pending                    | 401  404  404  404  200  404  404  404  404  200  401  401
GET /benchmarks/{benchmark_id}/results                    | approved                   | 401  200  200  200  200  200  200  200  200  200  401  401
GET /inbox                                                | -                          | 401  200  200  200  200  200  200  200  200  200  401  401
"""
#: States that things of these routes can be in: each has its row wherever it makes a difference to reading.
MLCUBES = {
    "model owner's draft",
    "model owner's model",
    "model owner's invalid one",
    "organisation's draft",
    "organisation's model",
}
BENCHMARKS = {
    "development",
    "pending",
    "approved",
    "rejected",
    "invalid",
    "organisation's pending",
    "organisation's approved",
}


DATASETS = {
    "data owner's draft",
    "data owner's dataset",
    "data owner's that asked",
    "data owner's that asked the organisation",
    "data owner's that was invited",
    "data owner's that left",
    "organisation's dataset",
}
#: Associations are changed by what is decided, so there is no one of each; reading makes these differences.
ASSOCIATIONS = {
    "dataset that asked",
    "dataset that joined",
    "model that asked",
    "model that joined",
    "dataset that asked the organisation",
    "dataset that the organisation invited",
    "model that joined the organisation's",
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    method: str
    path: str
    fields: tuple[str, ...]
    what: str
    cells: dict[str, int] = field(hash=False)

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"


def rows() -> list[Row]:
    found = []
    for line in TABLE.splitlines():
        if line and not line.startswith("#"):
            route, what, cells = (part.strip() for part in line.split("|"))
            method, path, *fields = route.split()
            answers = [int(cell) for cell in cells.split()]
            assert len(answers) == len(ACTORS), line
            found.append(Row(method, path, tuple(fields), what, dict(zip(ACTORS, answers, strict=True))))
    return found


ROWS = rows()
