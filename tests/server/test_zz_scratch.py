import json, pytest
from .test_paging import *
from .test_paging import _touched
@pytest.mark.parametrize("database",["postgresql"],indirect=True)
def test_planner(world, crowd):
    fill(world, crowd, 12000, hidden=0.97)
    world.sql("ANALYZE")
    bad=[]
    for noun in NOUNS:
        listing, query = LISTINGS[noun]
        every = combinations(noun,(None,"me",str(crowd.others[0]),str(crowd.organisations[1])))
        for person in (world.admin, crowd.alone, crowd.member):
            actor = Actor(person.id, person.party, person is world.admin, "", "")
            class M:
                def __init__(s,tx): s._tx=tx
                async def all(s, statement, parameters):
                    sql, values = s._tx._database.compiled.prepare(statement, parameters).bound(parameters)
                    (row,) = await s._tx._connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", *values)
                    p=json.loads(row[0])[0]["Plan"]; s.cost=_touched(p); s.ranges=str(statement).count("UNION")+1; s.plan=p; s.sql=sql
                    return await s._tx.all(statement, parameters)
            async def go():
                async with world.database.read() as tx:
                    for asked in every:
                        m=M(tx); m.cost=0
                        await listing.page(m, actor, query(**asked, limit=3))
                        if m.cost>250+150*m.ranges: bad.append((m.cost,m.ranges,noun,person.name,asked,m.plan))
            world.run(go)
        print(noun,len(every),len(bad),flush=True)
    bad.sort(key=lambda b:-b[0])
    def show(p,d=0):
        yield "  "*d+f"{p['Node Type']} {p.get('Index Name','')} {p.get('Index Cond','')} F:{p.get('Filter','')} removed={p.get('Rows Removed by Filter',0)} rows={p['Actual Rows']} est={p['Plan Rows']}"
        for q in p.get("Plans",()): yield from show(q,d+1)
    with open("/tmp/E/plans.txt","w") as f:
        for b in bad:
            print(b[:5],file=f)
        for b in bad[:12]:
            print(b[:5],file=f); print("\n".join(show(b[5])),file=f)
